"""What is logged of the answers that ended in a rollout, and of an update's gradients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llm_gym.learning.buffer import Segment
from llm_gym.learning.endings import Endings
from tests.tiny_runs import ROLLOUT, tiny_ppo


class World:
    """As much of an environment as endings ask for."""

    def __init__(self, **attributes):
        self.attributes = attributes

    def has_attr(self, name):
        return name in self.attributes

    def get_attr(self, name):
        return [self.attributes[name]]


def answers(endings, *told):
    for row, worth, reason in told:
        endings.note(row, {"episode": {"r": worth}, "stop_reason": reason})


def empty_buffer():
    return SimpleNamespace(segments=list)


def figures(endings):
    return endings.figures(empty_buffer())


def test_what_answers_were_worth():
    endings = Endings(World(eos_token_ids=(1,)), 1)
    answers(endings, (0, 1.0, "eos"), (1, 3.0, "length"))
    found = figures(endings)
    assert (found["return_mean"], found["return_std"], found["cut_share"]) == (2.0, 1.0, 0.5)
    assert "equal_groups" not in found


def test_groups_whose_answers_are_all_worth_the_same():
    endings = Endings(World(eos_token_ids=(1,)), 2)
    answers(endings, (0, 1.0, "eos"), (1, 1.0, "eos"), (2, 0.0, "eos"), (3, 1.0, "eos"))
    assert figures(endings)["equal_groups"] == 0.5


def test_a_rows_second_answer_belongs_to_its_second_group():
    endings = Endings(World(eos_token_ids=(1,)), 2)
    answers(endings, (0, 1.0, "eos"), (0, 2.0, "eos"), (1, 1.0, "eos"), (1, 2.0, "eos"))
    assert figures(endings)["equal_groups"] == 1.0


@pytest.mark.parametrize(
    "attributes", [{"eos_token_ids": ()}, {}, {"eos_token_ids": (1,), "max_turn_tokens": 3}]
)
def test_where_no_token_ends_an_answer_none_is_cut(attributes):
    endings = Endings(World(**attributes), 1)
    answers(endings, (0, 1.0, "length"))
    assert "cut_share" not in figures(endings)


def test_answers_that_do_not_count_are_left_out():
    endings = Endings(World(eos_token_ids=(1,)), 1)
    endings.note(0, {})
    assert figures(endings) == {}


def test_tokens_of_a_rollout():
    actions = np.array([[[1], [1]], [[2], [2]], [[9], [3]]])  # (3, 2, 1)
    segments = [Segment(env, 0, 2, np.zeros(0, dtype=np.int64), True) for env in (0, 1)]
    buffer = SimpleNamespace(
        actions=actions,
        log_probs=np.array([[-1.0, -2.0], [-3.0, -2.0], [-99.0, -99.0]]),
        segments=lambda: segments,
        complete=lambda segment: True,
        places=lambda chosen: (np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])),
    )
    found = Endings(World(), 1).figures(buffer)
    assert found == {"sampled_entropy": 2.0, "different_share": 0.5}


def logged(model, **changes):
    algorithm = tiny_ppo(model, **changes)
    algorithm.learn(ROLLOUT, log_interval=None)
    return algorithm, algorithm.logger.name_to_value


def test_the_norm_is_that_before_clipping(tiny_dir):
    model = tiny_dir("gpt2")
    once = {"n_epochs": 1, "batch_size": 10**6}
    free, figures_of_free = logged(model, max_grad_norm=1e9, **once)
    gradients = [p.grad for p in free.policy.parameters() if p.grad is not None]
    norm = float(torch.stack([g.norm() for g in gradients]).norm())
    assert figures_of_free["train/grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert figures_of_free["train/grad_clip_fraction"] == 0.0
    _, clipped = logged(model, max_grad_norm=norm / 2, **once)
    assert clipped["train/grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert clipped["train/grad_clip_fraction"] == 1.0


def test_a_frozen_value_head_does_not_step(tiny_dir):
    model = tiny_dir("gpt2")
    assert logged(model)[1]["train/value_head_step"] > 0
    frozen = tiny_ppo(model)
    frozen.policy.value_head.requires_grad_(False)
    frozen.learn(ROLLOUT, log_interval=None)
    assert frozen.logger.name_to_value["train/value_head_step"] == 0.0
