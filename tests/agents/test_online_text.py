"""The scripts of algorithms that learn from their own answers as they write them."""

from __future__ import annotations

import json

import pytest

from tests.agents.test_selection_text import AGENTS, load
from tests.products import sampled
from tests.tiny_runs import PROMPTS

SCRIPTS = {
    "a2c_text": ["--critic", "detached"],
    "reinforce_text": ["--baseline", "average"],
    "reinforce_plus_plus_text": ["--kl-coef", "0.1"],
    "remax_text": ["--group-size", "2"],
    "rloo_text": ["--kl-coef", "0.1"],
    "grpo_text": ["--n-epochs", "2"],
    "dr_grpo_text": [],
    "dapo_text": ["--clip-high", "0.4"],
    "nlpo_text": ["--mask-interval", "2"],
    "trpo_text": ["--cg-steps", "2"],
}


@pytest.fixture
def arguments(tiny_dir, tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text("\n".join(PROMPTS))
    return [
        "--env", "llm_gym/TextGeneration-v0", "--model", tiny_dir(), "--num-envs", "8",
        "--scorer", "tests.tiny_runs:count_w1", "--prompts", str(tmp_path / "train.txt"),
        "--eval-prompts", str(tmp_path / "test.txt"), "--max-new-tokens", "4",
        "--output", str(tmp_path / "run"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [*SCRIPTS, "maskable_ppo_text"])
def test_script_is_short_and_helps(name, capsys):
    assert len((AGENTS / f"{name}.py").read_text().splitlines()) <= 60
    with pytest.raises(SystemExit):
        load(name).main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"python agents/{name}.py" in shown


KEPT = ("reinforce_plus_plus_text", "rloo_text", "dapo_text", "nlpo_text", "trpo_text")


@pytest.mark.parametrize("name", sampled(SCRIPTS, *KEPT))
def test_script_trains_resumes_and_evaluates(name, arguments, tmp_path):
    script = load(name)
    assert script.main([*arguments, *SCRIPTS[name], "--total-tokens", "40"]) == 0
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["before"]["prompts"] == found["after"]["prompts"] == len(PROMPTS)
    assert script.main([*arguments, *SCRIPTS[name], "--total-tokens", "90", "--resume"]) == 0
    assert len(list((tmp_path / "run" / "checkpoints").glob("step-*/model"))) == 2


def test_a_finished_run_that_is_resumed_stays_what_it_was(arguments, tmp_path):
    """It ends past its number of tokens, with the answer that was being written then."""
    script, arguments = load("rloo_text"), [*arguments, "--total-tokens", "40"]
    assert script.main(arguments) == 0

    def left():
        [*_, checkpoint] = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
        state = json.loads((checkpoint / "checkpoint.json").read_text())
        assert state["num_timesteps"] > state["total_timesteps"] == 40
        return checkpoint.name, state, (tmp_path / "run" / "config.json").read_text()

    before = left()
    assert script.main([*arguments, "--resume"]) == 0
    assert left() == before


def test_maskable_script_obeys_its_masks(arguments, tmp_path, capsys):
    script = load("maskable_ppo_text")
    (tmp_path / "run").mkdir()  # a directory by itself is no run
    # The word that pays is token 4.
    forbidden = ["--forbidden-token-ids", "4", "5", "--min-new-tokens", "2"]
    assert script.main([*arguments, *forbidden, "--total-tokens", "256"]) == 0
    assert "model: " in capsys.readouterr().out
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    means = [
        value for line in lines for key, value in json.loads(line).items() if "rew_mean" in key
    ]
    assert means
    assert set(means) == {0.0}
    with pytest.raises(ValueError, match=r"already holds a run \(finished\): add --resume"):
        script.main([*arguments, *forbidden, "--total-tokens", "256"])


def test_mistakes_are_named(arguments):
    with pytest.raises(ValueError, match="env has group_size=1"):
        load("rloo_text").main([*arguments, "--group-size", "1"])
    with pytest.raises(ValueError, match="clip_range"):
        load("dapo_text").main([*arguments, "--clip-high", "-1"])
