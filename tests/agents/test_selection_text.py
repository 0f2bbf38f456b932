"""The scripts of algorithms that choose among answers: best-of-n, RAFT, SFT on the best, DPO."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from tests.tiny_runs import PROMPTS

AGENTS = Path(__file__).parents[2] / "agents"
TRAINING = {
    "raft_text": ["--kl-coef", "0.1"],
    "sft_on_best_text": ["--n-epochs", "2"],
    "dpo_text": ["--label-scale", "1"],
}


def load(name):
    spec = importlib.util.spec_from_file_location(f"agents_{name}", AGENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    del sys.modules[spec.name]
    return module


@pytest.fixture
def task(tiny_dir, tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text("\n".join(PROMPTS))
    return [
        "--env", "llm_gym/TextGeneration-v0", "--model", tiny_dir(),
        "--scorer", "tests.tiny_runs:count_w1", "--eval-prompts", str(tmp_path / "test.txt"),
        "--max-new-tokens", "6", "--num-envs", "8",
    ]  # fmt: skip


@pytest.fixture
def training(task, tmp_path):
    return [
        *task, "--prompts", str(tmp_path / "train.txt"), "--group-size", "4",
        "--output", str(tmp_path / "run"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [*TRAINING, "best_of_n_text"])
def test_script_is_short_and_helps(name, capsys):
    assert len((AGENTS / f"{name}.py").read_text().splitlines()) <= 60
    with pytest.raises(SystemExit):
        load(name).main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "language model: embedded or hub name, or directory [llm_gym/email-sft]" in shown
    assert f"python agents/{name}.py" in shown


@pytest.mark.parametrize("name", TRAINING)
def test_script_trains_resumes_and_evaluates(name, training, tmp_path):
    script, options = load(name), TRAINING[name]
    assert script.main([*training, *options, "--total-tokens", "144"]) == 0
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["before"]["prompts"] == found["after"]["prompts"] == len(PROMPTS)
    from transformers import AutoModelForCausalLM

    [model] = (tmp_path / "run" / "checkpoints").glob("step-000000000144/model")
    AutoModelForCausalLM.from_pretrained(model)
    with pytest.raises(ValueError, match=r"already holds a run \(finished\): add --resume"):
        script.main([*training, *options, "--total-tokens", "192"])
    assert script.main([*training, *options, "--total-tokens", "240", "--resume"]) == 0
    assert list((tmp_path / "run" / "checkpoints").glob("step-000000000240/model"))


def test_mistakes_are_named(training, task):
    raft, dpo, best = load("raft_text"), load("dpo_text"), load("best_of_n_text")
    with pytest.raises(ValueError, match=r"top_share=2\.0"):
        raft.main([*training, "--top-share", "2"])
    with pytest.raises(ValueError, match="labels='hard'"):
        dpo.main([*training, "--labels", "hard"])
    with pytest.raises(ValueError, match="holds no run to resume"):
        raft.main([*training, "--resume"])
    with pytest.raises(ValueError, match="n=0 must be a whole number of at least 1"):
        best.main([*task, "--n", "0"])
    with pytest.raises(ValueError, match="give --eval-prompts"):
        best.main(["--env", "llm_gym/TextGeneration-v0"])


def test_best_of_n_script_prints_and_writes_the_curve(task, tmp_path, capsys):
    output = tmp_path / "best.json"
    assert load("best_of_n_text").main([*task, "--n", "4", "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    assert [point["n"] for point in found["curve"]] == [1, 2, 4]
    assert found["best"]["prompts"] == len(PROMPTS)
    shown = capsys.readouterr().out
    assert "best of    4:" in shown
    assert "at most 0.64 nats" in shown
