from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from llm_gym.runs.checkpoint import latest_checkpoint
from tests.tiny_runs import PROMPTS

SCRIPT = Path(__file__).parents[2] / "agents" / "ppo_text.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("agents_ppo_text", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def arguments(tiny_dir, tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text("\n".join(PROMPTS))
    return [
        "--env", "llm_gym/TextGeneration-v0", "--model", tiny_dir(),
        "--scorer", "tests.tiny_runs:count_w1", "--prompts", str(tmp_path / "train.txt"),
        "--eval-prompts", str(tmp_path / "test.txt"), "--max-new-tokens", "6",
        "--num-envs", "4", "--batch-size", "12", "--device", "cpu",
        "--output", str(tmp_path / "run"),
    ]  # fmt: skip


def test_script_can_be_read_in_one_sitting():
    assert len(SCRIPT.read_text().splitlines()) <= 350


def test_every_setting_is_an_option_with_its_comment_as_help(script, capsys):
    with pytest.raises(SystemExit):
        script.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for field in fields(script.Config):
        assert f"--{field.name.replace('_', '-')}" in shown
    assert "penalty per nat of divergence; fits scores of 0 to 100 (ppo only) [1.0]" in shown
    assert "python agents/ppo_text.py --algorithm sb3-a2c" in shown


def test_options_are_read_with_the_type_of_their_field(script):
    config = script.parse_config(["--kl-target", "3", "--n-steps", "5", "--resume"])
    assert config.kl_target == 3.0
    assert config.n_steps == 5
    assert config.resume is True
    assert script.parse_config([]) == script.Config()


@pytest.mark.parametrize("algorithm", ["ppo", "sb3-ppo", "sb3-a2c"])
def test_trains_and_evaluates_with_each_algorithm(algorithm, script, arguments, tmp_path, capsys):
    assert script.main([*arguments, "--algorithm", algorithm, "--total-tokens", "72"]) == 0
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["before"]["prompts"] == found["after"]["prompts"] == len(PROMPTS)
    assert "before" in capsys.readouterr().out
    from transformers import AutoModelForCausalLM

    newest = latest_checkpoint(tmp_path / "run" / "checkpoints")
    tokens = int(newest.name.removeprefix("step-"))
    # Rollouts of ppo are whole answers: the last one ends where its longest answer does.
    assert 72 <= tokens < 72 + 24 if algorithm == "ppo" else tokens == 72
    AutoModelForCausalLM.from_pretrained(newest / "model")


def test_resumes_where_it_stopped(script, arguments, tmp_path):
    from safetensors.torch import load_file

    run = [*arguments, "--total-tokens", "72"]
    other = [*arguments[:-1], str(tmp_path / "parts")]
    script.main(run)
    script.main([*other, "--total-tokens", "48"])
    script.main([*other, "--total-tokens", "72", "--resume"])
    straight, parts = (latest_checkpoint(tmp_path / n / "checkpoints") for n in ("run", "parts"))
    assert straight.name == parts.name
    one, two = (load_file(found / "training.safetensors") for found in (straight, parts))
    assert [key for key in one if not (one[key] == two[key]).all()] == []


def test_mistakes_are_named(script, arguments):
    with pytest.raises(ValueError, match="must be one of ppo, sb3-ppo, sb3-a2c"):
        script.main([*arguments, "--algorithm", "dqn"])
    with pytest.raises(ValueError, match="holds no run to resume"):
        script.main([*arguments, "--resume"])
    script.main([*arguments, "--total-tokens", "24"])
    with pytest.raises(ValueError, match=r"already holds a run \(finished\): add --resume"):
        script.main([*arguments, "--total-tokens", "24"])
