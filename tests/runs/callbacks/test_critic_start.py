"""The critic's start: its level by hand, what it does to first advantages, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest
import stable_baselines3
import torch

import llm_gym
from llm_gym.runs.callbacks import CriticStart
from tests.tiny_runs import ROLLOUT, tiny_env


class FirstUpdate(CriticStart):
    """Keeps a copy of the first rollout as it goes into the update."""

    def _on_rollout_end(self):
        super()._on_rollout_end()
        if not hasattr(self, "advantages"):
            buffer = self.model.rollout_buffer
            self.advantages, self.returns = buffer.advantages.copy(), buffer.returns.copy()
            self.rewards, self.starts = buffer.rewards.copy(), buffer.episode_starts.copy()
            self.dones = np.array(self.locals["dones"])
            self.bias = self.model.policy.value_head.bias.item() * self.model.policy.value_scale


def words(prompts, completions):
    return [1.0 + len(set(completion.split())) for completion in completions]


def five(prompts, completions):
    return [5.0] * len(prompts)


def ppo(model, scorer=words, **changes):
    """Its rollouts end in the middle of answers."""
    settings = {"n_steps": 10, "batch_size": 12, "kl_coef": 0.0, "reward_scaling": False}
    policy = {"policy_kwargs": {"model": model}, "seed": 3}
    env = tiny_env(model, scorer=scorer)
    return llm_gym.PPO("TransformerPolicy", env, **{**settings, **policy, **changes})


def tokens_of_complete_episodes(watch):
    """What is still to come at each token of an episode that begins and ends in the rollout."""
    totals = []
    for env in range(watch.rewards.shape[1]):
        begins = [int(t) for t in np.flatnonzero(watch.starts[:, env])]
        ends = [*begins[1:], *([len(watch.rewards)] if watch.dones[env] else [])]
        for start, stop in zip(begins, ends, strict=False):
            totals += [watch.rewards[t:stop, env].sum() for t in range(start, stop)]
    return totals


@pytest.mark.parametrize("critic", [{}, {"separate_critic": True}, {"detach_value": True}])
def test_the_level_is_the_mean_of_what_was_to_come(tiny_dir, critic):
    model = tiny_dir()
    watch = FirstUpdate()
    ppo(model, policy_kwargs={"model": model, **critic}).learn(ROLLOUT, callback=watch)
    expected = np.mean(tokens_of_complete_episodes(watch))
    assert expected > 1
    assert watch.level == pytest.approx(expected, rel=1e-5)
    assert watch.bias == pytest.approx(expected, rel=1e-5)


def test_answers_of_equal_worth_teach_nothing(tiny_dir):
    watch = FirstUpdate()
    ppo(tiny_dir(), scorer=five).learn(ROLLOUT, callback=watch)
    assert watch.level == pytest.approx(5.0)
    # Not the last tokens more than the first, nor answers that the rollout's end cut off less.
    np.testing.assert_allclose(watch.advantages, 0.0, atol=1e-5)
    np.testing.assert_allclose(watch.returns, 5.0, atol=1e-5)


def test_later_rollouts_and_heads_that_learnt_are_left_alone(tiny_dir):
    algorithm = ppo(tiny_dir(), learning_rate=0.0)
    first, second = CriticStart(), CriticStart()
    algorithm.learn(3 * ROLLOUT, callback=first)
    bias = algorithm.policy.value_head.bias.detach().clone()
    assert bias.item() * algorithm.policy.value_scale == pytest.approx(first.level)
    algorithm.learn(ROLLOUT, callback=second, reset_num_timesteps=False)
    assert second.level is None
    assert torch.equal(algorithm.policy.value_head.bias, bias)


def test_algorithms_without_a_critic_are_left_alone(tiny_dir):
    model = tiny_dir()
    learnt = []
    for callback in (None, CriticStart()):
        env = tiny_env(model, group_size=2)
        algorithm = llm_gym.RLOO("TransformerPolicy", env, policy_kwargs={"model": model}, seed=1)
        algorithm.learn(2 * ROLLOUT, callback=callback)
        learnt.append(torch.cat([p.flatten() for p in algorithm.policy.parameters()]))
    assert callback.level is None
    assert torch.equal(*learnt)


def test_it_goes_with_stable_baselines3s_own_ppo(tiny_dir):
    model, watch = tiny_dir(), FirstUpdate()
    stable_baselines3.PPO(
        llm_gym.TransformerActorCriticPolicy,
        llm_gym.GymVecEnv(tiny_env(model, scorer=five)),
        n_steps=10,
        batch_size=20,
        gamma=1.0,
        policy_kwargs={"model": model},
        rollout_buffer_class=llm_gym.EpisodeBuffer,
    ).learn(ROLLOUT, callback=watch)
    assert watch.level == pytest.approx(5.0)
    np.testing.assert_allclose(watch.advantages, 0.0, atol=1e-5)
