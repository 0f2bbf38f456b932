"""`llm-gym train --eval-every N --keep-best`, with real evaluations."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import torch
from rich.console import Console
from safetensors.torch import load_file

from llm_gym.stages.train import TrainConfig, held_out, load_config, train


def test_output_says_which_checkpoint_was_the_best_and_a_resumed_run_keeps_the_same(
    tiny_dir, tmp_path
):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("w1 w2\nw3\nw4 w5 w6\n")
    config = TrainConfig(
        model=tiny_dir(), prompts=str(prompts), scorer="length:3", max_new_tokens=5, num_envs=8,
        device="cpu", seed=2, total_tokens=120, checkpoint_every=1, keep_last=1, eval_every=1,
        learning_rate=1e-2, keep_best=True, eval_prompts=str(prompts),
    )  # fmt: skip

    def run(name, config, **options):
        return train(tmp_path / name, config, console=Console(file=io.StringIO()), **options)

    whole = run("whole", config)
    run("parts", replace(config, total_tokens=40))
    parts = run("parts", replace(load_config(tmp_path / "parts"), total_tokens=120), resume=True)
    for name, told in (("whole", whole.best), ("parts", parts.best)):
        best = tmp_path / name / "best"
        found = json.loads((best / "evaluation.json").read_text())
        assert told == (
            f"best:   score {found['mean_score']:.4g} at {found['step']:,} tokens, kept in {best}"
        )
        curve = [
            row["eval/mean_score"]
            for row in map(json.loads, (tmp_path / name / "metrics.jsonl").open())
            if "eval/mean_score" in row
        ]
        assert found["mean_score"] == max(curve)
        assert held_out(config, str(best / "model")).mean_score == found["mean_score"]
    one, other = (
        load_file(tmp_path / p / "best" / "training.safetensors") for p in ("whole", "parts")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (
        whole.evaluations["after"].mean_score
        == held_out(config, str(tmp_path / "whole" / "model")).mean_score
    )
