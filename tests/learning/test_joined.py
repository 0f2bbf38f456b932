"""What Stable-Baselines3's own updates read in several processes is made when its turn comes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from llm_gym.learning.joined import _StockUpdate


class Doubling(RolloutBuffer):
    """Somebody's own, whose minibatches are not what lies in its arrays."""

    def get(self, batch_size=None):
        for samples in super().get(batch_size):
            yield samples._replace(advantages=2 * samples.advantages)


def filled(kind):
    rng = np.random.default_rng(0)
    buffer = kind(4, spaces.Box(0, 9, (3,), np.int64), spaces.Discrete(5), n_envs=2)
    for _ in range(4):
        value, log_prob = torch.from_numpy(rng.normal(size=(2, 2)))
        obs, actions = rng.integers(10, size=(2, 3)), rng.integers(5, size=2)
        buffer.add(obs, actions, rng.normal(size=2), np.zeros(2), value, log_prob)
    buffer.compute_returns_and_advantage(torch.zeros(2), np.ones(2))
    return buffer


def update_of(buffer):
    """Of a process that is told its own advantages."""
    policy = SimpleNamespace(evaluate_actions=None, parameters=list)
    alone = SimpleNamespace(size=1, unions=lambda arrays: arrays)
    return _StockUpdate(alone, SimpleNamespace(rollout_buffer=buffer, policy=policy))


@pytest.mark.parametrize("kind", [RolloutBuffer, Doubling])
@pytest.mark.parametrize("batch_size", [3, None])
def test_minibatches_are_the_buffers_own(kind, batch_size):
    np.random.seed(1)  # noqa: NPY002 - what Stable-Baselines3 draws from
    expected = list(filled(kind).get(batch_size))
    np.random.seed(1)  # noqa: NPY002
    found = list(update_of(filled(kind)).get(batch_size))
    assert len(found) == len(expected) == (3 if batch_size else 1)
    for mine, theirs in zip(found, expected, strict=True):
        assert all(map(torch.equal, mine, theirs))


def test_no_two_minibatches_are_in_memory_at_once(monkeypatch):
    copied, copy = [], RolloutBuffer._get_samples
    monkeypatch.setattr(
        RolloutBuffer, "_get_samples", lambda self, i: copied.append(i) or copy(self, i)
    )
    minibatches = update_of(filled(RolloutBuffer)).get(3)
    for number in (1, 2, 3):
        next(minibatches)
        assert len(copied) == number
