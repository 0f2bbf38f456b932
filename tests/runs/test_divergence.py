"""Runs that diverge keep their last good checkpoint, and save nothing that is no number."""

from __future__ import annotations

import io
import json

import pytest
import torch
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.language_models.divergence import DivergenceError
from llm_gym.runs.callbacks import CheckpointCallback, DivergenceCallback
from llm_gym.runs.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_model,
    save_numbered_checkpoint,
)
from llm_gym.stages.training_run import run
from tests.tiny_runs import ROLLOUT, tiny_ppo


class Break(BaseCallback):
    """Does something to the algorithm at the start of the n-th rollout."""

    def __init__(self, rollout, function):
        super().__init__()
        self.left, self.function = rollout, function

    def _on_rollout_start(self):
        self.left -= 1
        if self.left == 0:
            self.function(self.model)

    def _on_step(self):
        return True


@torch.no_grad()
def set_weights(algorithm, value, name="transformer.wte.weight"):
    algorithm.policy.model.get_parameter(name).view(-1)[1:40] = value


def quiet():
    return Console(file=io.StringIO())


def test_a_run_that_diverges_says_what_when_and_where_to_go_on_from(tiny_dir, tmp_path):
    algorithm = tiny_ppo(tiny_dir())

    def too_far(model):
        model.lr_schedule = lambda _: 1e12

    with pytest.raises(DivergenceError) as caught:
        run(
            algorithm, 10 * ROLLOUT, tmp_path, checkpoint_every=1, keep_last=1, console=quiet(),
            callbacks=[Break(3, too_far)],
        )  # fmt: skip
    kept = latest_checkpoint(tmp_path)
    assert kept.name == f"step-{2 * ROLLOUT:012d}"  # of before the step that was too long
    assert str(kept) in str(caught.value)
    assert f"at {3 * ROLLOUT} tokens; lower learning_rate (1e+12)" in str(caught.value)
    load_checkpoint(tiny_ppo(tiny_dir()), kept)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 3 * ROLLOUT
    assert rows[-1]["train/loss"] is None  # the gap


def test_a_run_that_diverges_at_once_has_nothing_to_go_on_from(tiny_dir, tmp_path):
    algorithm = tiny_ppo(tiny_dir(), learning_rate=1e12)
    with pytest.raises(DivergenceError, match="no checkpoint had been saved yet"):
        run(algorithm, 200, tmp_path, checkpoint_every=1, keep_last=1, console=quiet())
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("callback", [DivergenceCallback, None])
def test_no_checkpoint_is_taken_of_a_policy_that_has_left_the_numbers(
    tiny_dir, tmp_path, value, callback
):
    """Broken between the update and the checkpoint; 1e30 is a number, but its logits are none."""
    algorithm = tiny_ppo(tiny_dir())
    guards = [] if callback is None else [callback()]
    callbacks = [
        Break(3, lambda model: set_weights(model, value, "transformer.h.0.attn.c_attn.weight")),
        *guards,
        CheckpointCallback(tmp_path, every=1, keep_last=1),
    ]
    with pytest.raises(DivergenceError):
        algorithm.learn(6 * ROLLOUT, callback=callbacks)
    kept = latest_checkpoint(tmp_path)
    assert kept.name == f"step-{ROLLOUT:012d}"
    load_checkpoint(tiny_ppo(tiny_dir()), kept)


def test_what_is_saved_is_finite_and_an_older_one_stays(tiny_dir, tmp_path):
    algorithm = tiny_ppo(tiny_dir())
    algorithm.learn(ROLLOUT)
    checkpoint = save_numbered_checkpoint(algorithm, tmp_path, keep_last=1)
    model = save_model(algorithm, tmp_path / "model")
    before = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}

    def refused(what, save, *args, **kwargs):
        with pytest.raises(DivergenceError, match=what):
            save(algorithm, *args, **kwargs)
        assert {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()} == before

    moments = algorithm.policy.optimizer.state[next(algorithm.policy.parameters())]
    old = moments["exp_avg_sq"].clone()
    moments["exp_avg_sq"][0, 0] = float("inf")
    algorithm.num_timesteps += 1
    refused(r"'optimizer\.0\.exp_avg_sq'", save_numbered_checkpoint, tmp_path, keep_last=1)
    refused("exp_avg_sq", save_checkpoint, checkpoint)
    moments["exp_avg_sq"].copy_(old)
    algorithm.shaping.returns.var = float("inf")
    refused("'own.return_statistics.var' is inf", save_checkpoint, checkpoint)
    algorithm.shaping.returns.var = 1.0
    set_weights(algorithm, float("nan"))
    refused(r"wte\.weight", save_checkpoint, checkpoint)
    refused(r"wte\.weight", save_model, model)
    set_weights(algorithm, 0.0)
    save_model(algorithm, model)


def test_asking_for_divergence_does_not_disturb_training(tiny_dir):
    plain, watched = tiny_ppo(tiny_dir()), tiny_ppo(tiny_dir())
    plain.learn(4 * ROLLOUT)
    watched.learn(4 * ROLLOUT, callback=[DivergenceCallback()])
    for one, other in zip(plain.policy.parameters(), watched.policy.parameters(), strict=True):
        assert torch.equal(one, other)
