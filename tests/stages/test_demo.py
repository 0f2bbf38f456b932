"""The demo's machinery on a tiny model; what it reaches is measured by `llm-gym demo` itself."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import gymnasium as gym
import pytest
import torch
from rich.console import Console

from llm_gym.runs.directory import RunDirectory
from llm_gym.stages import demo as module
from llm_gym.stages.demo import DemoConfig, demo
from llm_gym.testing.tiny import tiny_model
from tests.tiny_runs import PROMPTS, count_w1

ID = "llm_gym_test/Demo-v0"
SPLITS = {"train": PROMPTS, "test": ["w10", "w11 w12", "w13"]}


@pytest.fixture
def config(tiny_dir):
    def make(num_envs, split="train", **kwargs):
        from llm_gym import TextGenerationVectorEnv

        return TextGenerationVectorEnv(
            prompts=SPLITS[split], scorer=count_w1, max_new_tokens=6, num_envs=num_envs, **kwargs
        )

    gym.register(ID, entry_point="none:none", vector_entry_point=make)
    yield DemoConfig(
        seed=1,
        env=ID,
        base_model=tiny_dir(seed=9),
        model=tiny_dir(),
        total_tokens=4 * 6 * 3,
        num_envs=4,
        batch_size=12,
        shown_prompts=2,
    )
    del gym.registry[ID]


def test_writes_report_summary_and_model(config, tmp_path):
    stream = io.StringIO()
    run = demo(tmp_path, config, console=Console(file=stream, width=100))
    assert not run.stopped
    summary = run.summary
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert {
        "score_before", "score_after", "perplexity_ratio", "kl", "seconds", "versions", "commit",
        "settings",
    } <= summary.keys()  # fmt: skip
    assert summary["held_out_prompts"] == 3
    assert summary["kl"] > 0
    assert summary["perplexity_ratio"] == pytest.approx(
        summary["perplexity_after"] / summary["perplexity_before"]
    )
    page = (tmp_path / "report.html").read_text()
    for text in (*module.STAGES, "w10", "w11 w12", "Settings", "polyline", config.model):
        assert text in page
    shown = stream.getvalue()
    for text in (*module.STAGES, "w10", "perplexity ratio"):
        assert text in shown
    assert shown.rstrip().splitlines()[-2:] == [
        "try it:", f"  llm-gym generate --model {tmp_path / 'model'} w10",
    ]  # fmt: skip

    from transformers import AutoModelForCausalLM, AutoTokenizer

    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "value_head.safetensors").exists()
    start = tiny_model().state_dict()
    assert any(not torch.equal(start[k], v) for k, v in trained.state_dict().items())


def test_same_seed_same_result_and_a_finished_demo_is_replaced(config, tmp_path):
    console = Console(file=io.StringIO())
    first, again, another_seed = (
        demo(tmp_path, replace(config, seed=seed), console=console).summary for seed in (1, 1, 2)
    )
    keys = ("score_before", "score_after", "perplexity_ratio", "kl")
    assert [first[k] for k in keys] == [again[k] for k in keys]
    assert [first[k] for k in keys] != [another_seed[k] for k in keys]


def test_interrupted_demo_goes_on_to_the_same_result(config, tmp_path, monkeypatch):
    console = Console(file=io.StringIO())
    whole = demo(tmp_path / "whole", config, console=console).summary

    def stop_early(algorithm, total, *args, **kwargs):
        return replace(run(algorithm, 4 * 6, *args, **kwargs), stopped=True)

    run = module.run
    monkeypatch.setattr(module, "run", stop_early)
    stopped = demo(tmp_path / "parts", config, console=console)
    assert stopped.stopped
    assert stopped.summary is None
    assert not (tmp_path / "parts" / "summary.json").exists()
    with pytest.raises(ValueError, match=r"with other settings: seed=5 \(there: 1\); finish that"):
        demo(tmp_path / "parts", replace(config, seed=5), console=console)
    monkeypatch.setattr(module, "run", run)
    resumed = demo(tmp_path / "parts", config, console=console).summary
    for key in ("score_before", "score_after", "perplexity_ratio", "kl", "tokens"):
        assert resumed[key] == whole[key], key


def test_a_demo_that_died_before_its_first_checkpoint_begins_again(config, tmp_path):
    with RunDirectory(tmp_path, {}, command="demo").opened():
        (tmp_path / "checkpoints" / ".step-000000000024.llm_gym-0a1b2c3d.tmp").mkdir(parents=True)
    assert demo(tmp_path, config, console=Console(file=io.StringIO())).summary is not None
