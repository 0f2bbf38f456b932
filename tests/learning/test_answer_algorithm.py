"""Algorithms of whole answers: how they read them, alone and beside other processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger

from llm_gym.learning import answer_algorithm
from llm_gym.learning.answer_algorithm import _LearnFirst, answer_batch
from llm_gym.learning.expert_iteration import ExpertIteration
from llm_gym.text.answer import Answer
from tests.learning.worlds import grouped_env, settings

ANSWERS = [
    Answer(prompt_ids=(4, 5), completion_ids=(6, 7, 1)),
    Answer(prompt_ids=(8,), completion_ids=(9,)),
    Answer(prompt_ids=(3, 3, 3), completion_ids=(4, 1)),
    Answer(prompt_ids=(3,), completion_ids=(2, 2, 2, 1)),
    Answer(prompt_ids=(9, 4), completion_ids=(1,)),
]


@pytest.fixture
def expert(tiny_dir):
    chosen = settings(tiny_dir(), kl_coef=0.1)
    return ExpertIteration("TransformerPolicy", grouped_env(tiny_dir()), **chosen)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5])
def test_answers_are_read_a_few_at_a_time(number, expert, monkeypatch):
    monkeypatch.setattr(answer_algorithm, "_ANSWERS_PER_PASS", 2)
    answers = ANSWERS[:number]
    with torch.no_grad():
        alone = [float(expert.log_probs([answer])[0]) for answer in answers]
    for found in (expert.policy_log_probs(answers), expert.reference_log_probs(answers)):
        assert found.shape == (number,)
        np.testing.assert_allclose(found.numpy(), alone, atol=1e-5)


def test_a_process_without_answers_has_the_figures_of_the_others(expert, monkeypatch):
    """One has learnt from nothing in three minibatches, and another from something in each."""
    losses = iter([3.0, 6.0, 12.0])
    others = SimpleNamespace(
        sums=lambda *values: list(values),
        reduce_gradients=lambda parameters, figures: [next(losses)],
        means=lambda figures, weight: figures | {"share": 0.5},
    )
    monkeypatch.setattr(answer_algorithm, "world", lambda: others)
    expert.set_logger(Logger(None, []))
    nothing = np.zeros(0, dtype=np.int64)
    monkeypatch.setattr(answer_algorithm, "token_batches", lambda *_: [nothing] * 3)
    means = expert.descend([], lambda _: pytest.fail("there is nothing to learn from"))
    assert means == pytest.approx({"loss": 7.0, "share": 0.5})


def test_what_may_be_left_out_is_given_by_name(expert):
    with pytest.raises(TypeError):
        expert.descend([3], lambda _: None, [1.0])
    with pytest.raises(TypeError):
        answer_batch(ANSWERS, "cpu", 32)


@pytest.mark.parametrize("turning", [False, True])
@pytest.mark.parametrize("finished", [[], [ANSWERS]])
def test_what_a_checkpoint_brought_along_is_learnt_from_at_the_turning_point(turning, finished):
    done: list[str] = []
    model: Any = SimpleNamespace(
        answers=SimpleNamespace(finished=finished),
        is_turning_point=lambda: turning,
        dump_logs=lambda: done.append("logs"),
        train=lambda: done.append("train"),
    )
    callback = _LearnFirst()
    callback.model = model
    callback._on_training_start()
    assert done == (["logs", "train"] if turning and finished else [])
