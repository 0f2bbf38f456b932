"""Held against an optimum that is known exactly: 256 answers, a tabular reference model."""

from __future__ import annotations

import gymnasium as gym
import pytest

import llm_gym
from tests.products import sampled


def gain(name, directory, **settings):
    """Share of the way from the reference model to the best possible objective."""
    env = gym.make_vec(
        "llm_gym/KnownOptimum-v0", num_envs=64, group_size=4, autoreset_mode="SameStep"
    )
    problem = env.unwrapped.problem
    algorithm = getattr(llm_gym, name)(
        "TransformerPolicy",
        env,
        learning_rate=lambda left: 0.05 * left,
        kl_coef=problem.beta,
        seed=0,
        device="cpu",
        policy_kwargs={"model": problem.save_reference(directory)},
        **settings,
    )
    algorithm.learn(32_000)
    return problem.evaluate(algorithm.policy).gain


@pytest.mark.parametrize("name", sampled(["RLOO", "DrGRPO", "REINFORCE", "A2C"], "RLOO", "A2C"))
def test_sound_choices_come_close_to_the_optimum(name, tmp_path):
    assert gain(name, tmp_path) > 0.97


@pytest.mark.slow
def test_a_penalty_in_the_loss_is_another_objective(tmp_path):
    """By tokens, it does not see the divergence in the states that a token leads to."""
    in_loss = gain("DrGRPO", tmp_path / "loss", kl_in="loss", kl_estimator="k2")
    grpo = gain("GRPO", tmp_path / "grpo")
    assert grpo < in_loss < 0.96
