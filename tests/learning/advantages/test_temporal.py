from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from llm_gym.learning.advantages import gae, monte_carlo_returns, whiten


def random_rollout(seed: int, n_steps: int = 12, n_envs: int = 3):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(2, n_steps, n_envs))
    starts = rng.random((n_steps, n_envs)) < 0.25
    return rewards, values, starts, rng.normal(size=n_envs), rng.random(n_envs) < 0.5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 1.0), (1.0, 0.95), (0.9, 0.5), (0.9, 0.0)])
def test_gae_equals_the_sum_that_defines_it(seed, gamma, gae_lambda):
    """Against the O(T^2) definition on random episode borders."""
    rewards, values, starts, last_values, last_dones = random_rollout(seed)
    n_steps, n_envs = rewards.shape
    ends = np.vstack([starts[1:], last_dones[None]])
    next_values = np.vstack([values[1:], last_values[None]]) * ~ends
    deltas = rewards + gamma * next_values - values
    expected = np.zeros_like(rewards)
    for n in range(n_envs):
        for t in range(n_steps):
            for k in range(t, n_steps):
                expected[t, n] += (gamma * gae_lambda) ** (k - t) * deltas[k, n]
                if ends[k, n]:
                    break
    found = gae(
        rewards, values, starts, last_values, last_dones, gamma=gamma, gae_lambda=gae_lambda
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_gae_equals_stable_baselines3():
    rewards, values, starts, last_values, last_dones = random_rollout(9)
    n_steps, n_envs = rewards.shape
    buffer = RolloutBuffer(
        n_steps, spaces.Box(0, 1, (1,)), spaces.Discrete(2), "cpu", 0.95, 0.99, n_envs
    )
    buffer.rewards[:], buffer.values[:], buffer.episode_starts[:] = rewards, values, starts
    buffer.compute_returns_and_advantage(torch.tensor(last_values), last_dones)
    found = gae(rewards, values, starts, last_values, last_dones, gamma=0.99, gae_lambda=0.95)
    np.testing.assert_allclose(found, buffer.advantages, atol=1e-5)


def test_whiten_golden_values():
    """Biased variance; rewards keep their mean, advantages do not."""
    values = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(
        whiten(values), np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25), atol=1e-7
    )
    np.testing.assert_allclose(whiten(values, shift_mean=False).mean(), 2.5, atol=1e-12)
    np.testing.assert_allclose(whiten(values, shift_mean=False).std(), 1.0, atol=1e-7)


def test_monte_carlo_returns_golden_values():
    """Two episodes in one row, the second cut; gamma 1/2 by hand."""
    rewards = np.array([[1.0], [0.0], [4.0], [2.0], [8.0]])
    starts = np.array([[True], [False], [False], [True], [False]])
    np.testing.assert_array_equal(
        monte_carlo_returns(rewards, starts)[:, 0], [5.0, 4.0, 4.0, 10.0, 8.0]
    )
    np.testing.assert_array_equal(
        monte_carlo_returns(rewards, starts, gamma=0.5)[:, 0], [2.0, 2.0, 4.0, 6.0, 8.0]
    )


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_monte_carlo_returns_are_gae_without_a_critic(gamma):
    rewards, _, starts, last, dones = random_rollout(4)
    nothing = np.zeros_like(rewards)
    expected = gae(
        rewards, nothing, starts, np.zeros_like(last), dones, gamma=gamma, gae_lambda=1.0
    )
    np.testing.assert_allclose(
        monte_carlo_returns(rewards, starts, gamma=gamma), expected, atol=1e-12
    )
