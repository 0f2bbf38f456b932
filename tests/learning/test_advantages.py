from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from llm_gym.learning.advantages import (
    ESTIMATORS,
    Rollout,
    batch_mean,
    dr_grpo,
    gae,
    grpo,
    leave_one_out,
    monte_carlo_returns,
    reinforce_plus_plus,
    remax,
    rloo,
)


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
    result = gae(
        rewards, values, starts, last_values, last_dones, gamma=gamma, gae_lambda=gae_lambda
    )
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_every_step_may_have_a_discount_and_a_lambda_of_its_own():
    """`A_t = sum_k (prod_{t <= j < k} gamma_j lambda_j) delta_k`, and returns to go alike."""
    rewards, values, starts, last_values, last_dones = random_rollout(3)
    discounts, weights = np.random.default_rng(7).uniform(0.2, 1.0, size=(2, *rewards.shape))
    ends = np.vstack([starts[1:], last_dones[None]])
    next_values = np.vstack([values[1:], last_values[None]]) * ~ends
    deltas = rewards + discounts * next_values - values
    advantages, to_go = np.zeros_like(rewards), np.zeros_like(rewards)
    for t, n in np.ndindex(rewards.shape):
        carried = discount = 1.0
        for k in range(t, len(rewards)):
            advantages[t, n] += carried * deltas[k, n]
            to_go[t, n] += discount * rewards[k, n]
            carried *= discounts[k, n] * weights[k, n]
            discount *= discounts[k, n]
            if ends[k, n]:
                break
    result = gae(
        rewards, values, starts, last_values, last_dones, gamma=discounts, gae_lambda=weights
    )
    np.testing.assert_allclose(result, advantages, atol=1e-12)
    np.testing.assert_allclose(
        monte_carlo_returns(rewards, starts, gamma=discounts), to_go, atol=1e-12
    )


def test_rollouts_may_be_longer_than_any_number_that_is_kept_once():
    """CPython has one object for each whole number up to 256 alone."""
    rewards = np.random.default_rng(0).normal(size=(300, 1))
    starts = np.zeros((300, 1), dtype=bool)
    result = gae(
        rewards, np.zeros((300, 1)), starts, np.ones(1), np.zeros(1), gamma=1.0, gae_lambda=1.0
    )
    np.testing.assert_allclose(result, rewards[::-1].cumsum(axis=0)[::-1] + 1.0, atol=1e-9)


def test_gae_equals_stable_baselines3():
    rewards, values, starts, last_values, last_dones = random_rollout(9)
    n_steps, n_envs = rewards.shape
    buffer = RolloutBuffer(
        n_steps, spaces.Box(0, 1, (1,)), spaces.Discrete(2), "cpu", 0.95, 0.99, n_envs
    )
    buffer.rewards[:], buffer.values[:], buffer.episode_starts[:] = rewards, values, starts
    buffer.compute_returns_and_advantage(torch.tensor(last_values), last_dones)
    result = gae(rewards, values, starts, last_values, last_dones, gamma=0.99, gae_lambda=0.95)
    np.testing.assert_allclose(result, buffer.advantages, atol=1e-5)


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


# ------------------------------------------------------------------ whole answers


# Two prompts with four answers each; means 2.5 and 0, standard deviations (G - 1) sqrt(5/3), 0.
SCORES = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]])


def test_golden_values():
    """By hand, from each paper's formula."""
    np.testing.assert_allclose(leave_one_out(SCORES)[0], [3.0, 8 / 3, 7 / 3, 2.0])
    np.testing.assert_allclose(rloo(SCORES)[0], [-2.0, -2 / 3, 2 / 3, 2.0])
    np.testing.assert_allclose(dr_grpo(SCORES)[0], [-1.5, -0.5, 0.5, 1.5])
    std = np.sqrt(5 / 3)
    np.testing.assert_allclose(grpo(SCORES)[0], np.array([-1.5, -0.5, 0.5, 1.5]) / (std + 1e-4))
    for estimator in (rloo, dr_grpo, grpo):
        np.testing.assert_array_equal(estimator(SCORES)[1], 0.0)
    np.testing.assert_allclose(batch_mean(SCORES)[0], [-0.25, 0.75, 1.75, 2.75])
    np.testing.assert_allclose(remax(SCORES, np.array([2.0, -1.0]))[:, 0], [-1.0, 1.0])


def test_rloo_of_the_published_example():
    """Two answers: each one's baseline is the other (arXiv 2402.14740, eq. 6 with k = 2)."""
    np.testing.assert_allclose(rloo(np.array([[0.7, 0.2]])), [[0.5, -0.5]])


@pytest.mark.parametrize("group_size", [2, 3, 8])
def test_rloo_identity(group_size):
    """r_i - mean of the others = G / (G - 1) (r_i - mean); a group sums to zero."""
    scores = np.random.default_rng(group_size).normal(size=(5, group_size))
    expected = [[row[i] - np.delete(row, i).mean() for i in range(group_size)] for row in scores]
    np.testing.assert_allclose(rloo(scores), expected, atol=1e-12)
    np.testing.assert_allclose(
        rloo(scores), group_size / (group_size - 1) * dr_grpo(scores), atol=1e-12
    )
    np.testing.assert_allclose(rloo(scores).sum(1), 0.0, atol=1e-12)


@pytest.mark.parametrize("estimator", [rloo, dr_grpo, grpo, leave_one_out])
def test_group_ids_equal_rows_in_any_order(estimator):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6, 4))
    order = rng.permutation(24)
    ids = np.arange(6).repeat(4)[order] * 7 - 3
    result = estimator(scores.reshape(-1)[order], ids)
    np.testing.assert_allclose(result, estimator(scores).reshape(-1)[order], atol=1e-12)


@pytest.mark.parametrize("estimator", [rloo, dr_grpo, grpo])
def test_groups_may_differ_in_size(estimator):
    result = estimator(np.array([1.0, 5.0, 3.0, 2.0, 2.5]), np.array([0, 1, 0, 1, 1]))
    np.testing.assert_allclose(result[[0, 2]], estimator(np.array([[1.0, 3.0]]))[0])
    np.testing.assert_allclose(result[[1, 3, 4]], estimator(np.array([[5.0, 2.0, 2.5]]))[0])


def test_baselines_of_answers_serve_the_rewards_to_go_of_their_tokens():
    to_go, ids = np.array([3.0, 2.0, 5.0]), np.array([1, 1, 0])  # two tokens, and one
    np.testing.assert_array_equal(batch_mean(to_go, np.array([3.0, 5.0])), [-1.0, -2.0, 1.0])
    np.testing.assert_array_equal(remax(to_go, np.array([4.0, 1.0]), ids), [2.0, 1.0, 1.0])


def test_grpo_gives_every_group_the_same_weight_and_dr_grpo_does_not():
    scores = np.array([[0.0, 1.0], [0.0, 100.0]])
    np.testing.assert_allclose(grpo(scores)[0], grpo(scores)[1], rtol=1e-3)
    np.testing.assert_allclose(dr_grpo(scores)[1], 100 * dr_grpo(scores)[0])


def test_reinforce_plus_plus_whitens_all_tokens_together():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(
        reinforce_plus_plus(values), (values - 2.5) / np.sqrt(1.25), atol=1e-7
    )


@pytest.mark.parametrize("name", ["batch_mean", "reinforce_plus_plus"])
def test_a_process_measures_its_answers_against_those_of_all(name):
    rng = np.random.default_rng(5)
    lengths = np.array([3, 1, 4, 2, 5, 2])
    to_go, scores, groups = rng.normal(size=lengths.sum()), rng.normal(size=6), np.arange(6)
    whole = Rollout(to_go, scores, lengths, groups, None, 0.0, to_go, scores)
    own = whole._replace(to_go=to_go[:8], scores=scores[:3], lengths=lengths[:3], groups=groups[:3])
    np.testing.assert_allclose(ESTIMATORS[name](own), ESTIMATORS[name](whole)[:8], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rloo(np.zeros((3, 1))), "a group has 1 answer"),
        (lambda: grpo(np.zeros(3), np.array([0, 0, 1])), "a group has 1 answer"),
        (lambda: dr_grpo(np.zeros(3)), r"shape \(3,\) must be \(n_groups, G\)"),
        (lambda: dr_grpo(np.zeros((1, 2, 3))), r"shape \(1, 2, 3\) must be \(n_groups, G\)"),
        (lambda: rloo(np.zeros((2, 2)), np.zeros(4, int)), r"group_ids of shape \(4,\)"),
        (lambda: rloo(np.zeros((2, 2)), np.zeros((2, 2), int)), r"scores of the same shape \(n,\)"),
        (lambda: rloo(np.zeros(()), np.zeros((), int)), r"scores of the same shape \(n,\)"),
        (lambda: grpo(np.zeros(3), np.zeros(2, int)), r"group_ids of shape \(2,\)"),
        (lambda: grpo(np.zeros(3), np.zeros(4, int)), r"group_ids of shape \(4,\)"),
        (lambda: remax(np.zeros((2, 2)), np.zeros(3)), r"greedy_scores of shape \(2,\)"),
        (lambda: remax(np.zeros((2, 2)), np.zeros(1)), r"greedy_scores of shape \(2,\)"),
        (lambda: remax(np.zeros(2), np.zeros(2)), r"returns of shape \(2,\)"),
        (lambda: remax(np.zeros((2, 2, 2)), np.zeros(2)), r"returns of shape \(2, 2, 2\)"),
        (lambda: remax(np.zeros(2), np.zeros(1), np.zeros(3, int)), r"group_ids of shape \(3,\)"),
        (lambda: remax(np.zeros(2), np.zeros(1), np.zeros(1, int)), r"group_ids of shape \(1,\)"),
    ],
)
def test_layouts_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


ROWS = np.ones((2, 3))


@pytest.mark.parametrize(
    "call",
    [
        lambda: gae(ROWS, ROWS, ROWS, ROWS[0], ROWS[0], 1.0, 1.0),
        lambda: monte_carlo_returns(ROWS, ROWS, 1.0),
        lambda: grpo(ROWS, None, 1e-3),
        lambda: reinforce_plus_plus(ROWS, 1e-3),
    ],
)
def test_settings_of_advantages_are_given_by_name(call):
    with pytest.raises(TypeError, match="positional argument"):
        call()
