"""Held against problems whose optimum is known: DPO finds it, imitation finds best-of-n."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import llm_gym  # noqa: F401 - registers the environments
from llm_gym.learning.dpo import DPO
from llm_gym.learning.expert_iteration import SFTOnBest
from tests.products import sampled


def learn(cls, group_size, tmp_path, **settings):
    env = gym.make_vec(
        "llm_gym/KnownOptimum-v0", num_envs=64, autoreset_mode="SameStep", group_size=group_size
    )
    problem = env.unwrapped.problem
    model = problem.save_reference(tmp_path / "reference")
    algorithm = cls(
        "TransformerPolicy",
        env,
        learning_rate=lambda left: 3e-2 * left,
        n_epochs=8,
        seed=0,
        device="cpu",
        policy_kwargs={"model": model},
        **settings,
    )
    algorithm.learn(40_000)
    return problem, algorithm.policy


@pytest.mark.slow
@pytest.mark.parametrize("label_scale", sampled([0.1, 1.0], 1.0))
def test_dpo_finds_the_optimum_of_reinforcement_learning(tmp_path, label_scale):
    """beta * label_scale is the price of divergence, however the two share it."""
    beta = 0.1 / label_scale  # the problem's penalty is 0.1
    problem, policy = learn(DPO, 2, tmp_path, batch_size=512, beta=beta, label_scale=label_scale)
    assert problem.beta == 0.1
    result = problem.evaluate(policy)
    assert result.kl_to_optimum < 0.02
    assert result.j_over_jstar > 0.99


@pytest.mark.slow
def test_imitating_the_best_of_four_is_best_of_four(tmp_path):
    """The policy's answers have the exact distribution of best-of-4, up to the samples' noise."""
    problem, policy = learn(SFTOnBest, 4, tmp_path, batch_size=256)
    [exact] = problem.best_of_n(4)
    ours = problem.answer_probabilities(problem.policy(policy))[0]
    [start] = problem.reference_answers

    def divergence(target):
        return float(ours @ np.log(ours / target))

    assert divergence(exact.probabilities) < 0.08
    assert divergence(start) > 0.3
    expected = exact.expectation(problem.rewards[0])
    assert float(ours @ problem.rewards[0]) == pytest.approx(expected, abs=0.02)
