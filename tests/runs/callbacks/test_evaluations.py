"""Evaluations in the course of training, and the best one's checkpoint."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from llm_gym.runs.callbacks import EvaluationCallback
from llm_gym.runs.callbacks.evaluations import best_score, read_evaluation
from llm_gym.runs.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from llm_gym.runs.directory import RunDirectory
from llm_gym.stages.training_run import learn, run
from tests.tiny_runs import ROLLOUT, tiny_ppo

SCORES = {1: 3.0, 2: 7.0, 3: 7.0, 4: 5.0, 5: 6.0, 6: 1.0}  # by the number of updates before


class Measure:
    """Scores that are known, and when they were asked for."""

    def __init__(self, scores=SCORES):
        self.scores, self.asked = scores, []

    def __call__(self, algorithm):
        number = algorithm.num_timesteps // ROLLOUT
        self.asked.append(number)
        score = self.scores[number]
        return SimpleNamespace(mean_score=score, low=score - 1, high=score + 1, rows=(0,) * 4)


def trained(model, output, rollouts, measure, *, resume=False, every=1):
    algorithm = tiny_ppo(model)
    if resume:
        load_checkpoint(algorithm, latest_checkpoint(output))
    watch = EvaluationCallback(measure, every=every, best=output / "best")
    run(
        algorithm, rollouts * ROLLOUT, output, checkpoint_every=1, keep_last=1,
        console=Console(file=io.StringIO()), callbacks=[watch],
    )  # fmt: skip
    return watch


def weights(directory):
    return load_file(directory / "training.safetensors")


def test_the_best_checkpoint_outlives_the_newest_ones(tiny_dir, tmp_path):
    measure = Measure()
    trained(tiny_dir(), tmp_path, 4, measure)
    assert measure.asked == [1, 2, 3, 4]  # the last update, too, and no model twice
    assert read_evaluation(tmp_path / "best") == {
        "step": 2 * ROLLOUT, "mean_score": 7.0, "low": 6.0, "high": 8.0, "prompts": 4,
    }  # fmt: skip
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [f"step-{4 * ROLLOUT:012d}"]
    plain = tiny_ppo(tiny_dir())
    plain.learn(2 * ROLLOUT)
    best = tiny_ppo(tiny_dir())
    load_checkpoint(best, tmp_path / "best")
    for one, other in zip(plain.policy.parameters(), best.policy.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("later", "best"), [(5.0, 2), (7.5, 4)])
def test_a_resumed_run_remembers_the_best(tiny_dir, tmp_path, later, best):
    scores = SCORES | {4: later}
    trained(tiny_dir(), tmp_path / "whole", 4, Measure(scores))
    trained(tiny_dir(), tmp_path / "parts", 3, Measure(scores))
    measure = Measure(scores)
    trained(tiny_dir(), tmp_path / "parts", 4, measure, resume=True)
    assert measure.asked == [4]
    for part in ("whole", "parts"):
        assert read_evaluation(tmp_path / part / "best")["step"] == best * ROLLOUT
    whole, parts = (weights(tmp_path / part / "best") for part in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_evaluations_come_every_so_many_iterations_and_at_the_end(tiny_dir, tmp_path):
    measure = Measure()
    watch = trained(tiny_dir(), tmp_path, 5, measure, every=2)
    assert measure.asked == [2, 4, 5]
    assert watch.latest.mean_score == 6.0


def test_without_a_directory_nothing_is_kept(tiny_dir, tmp_path):
    algorithm = tiny_ppo(tiny_dir())
    algorithm.learn(2 * ROLLOUT, callback=EvaluationCallback(Measure(), every=1))
    assert best_score(tmp_path / "best") == float("-inf")
    save_checkpoint(algorithm, tmp_path / "best")  # somebody's own: it has no score
    assert best_score(tmp_path / "best") == float("-inf")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"keep_best": True}, "keep_best needs evaluations.*set eval_every"),
        ({"eval_every": 2, "keep_best": True}, "eval_every=2 has no held-out prompts"),
    ],
)
def test_what_cannot_be_evaluated_is_said_before_training(tmp_path, settings, problem):
    directory = RunDirectory(tmp_path, {"model": "m", "env": "e", "total_tokens": 1})
    with pytest.raises(ValueError, match=problem):
        learn(
            None, directory, 1, checkpoint_every=1, keep_last=1, measure=lambda *_, **__: None,
            **settings,
        )  # fmt: skip
