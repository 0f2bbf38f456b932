"""A result does not depend on the units that a scorer counts in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.learning.shaping import RunningMoments
from tests.learning.online_worlds import MODEL, make, rollouts, small_env

WITH_CRITIC = {"PPO": {"n_steps": 4}, "A2C": {"n_steps": 7}, "NLPO": {}}
OF_WHOLE_ANSWERS: dict[str, dict[str, Any]] = {
    "REINFORCE": {"advantage": "moving_average"},
    "ReinforcePlusPlus": {},
    "RLOO": {"kl_in": "loss"},
    "GRPO": {},
    "DrGRPO": {},
    "DAPO": {},
    "ReMax": {},
}
MODES = ["terminate", "penalise", "truncate"]


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


def scores(units: float):
    def count(prompts, completions, **_):
        return [units * (0.1 + completion.split().count("w1")) for completion in completions]

    return count


class Answers(BaseCallback):
    """Keeps what was answered."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: list[np.ndarray] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer
        self.actions += [buffer.actions[s.start : s.stop, s.env] for s in buffer.segments()]


def answers(name, model, units, mode, *, kl_coef, **settings):
    """What is answered in three rollouts, and the weights after them."""
    lengths = {"on_max_length": mode}
    if mode == "penalise":
        lengths["missing_eos_penalty"] = -0.5 * units
    env = small_env(model, eos_token_id=(1, 7, 8), scorer=scores(units), group_size=4, **lengths)
    settings = {
        "reward_scaling": True,
        "kl_coef": kl_coef * units,
        "learning_rate": 0.03,
    } | settings
    algorithm, callback = make(name, model, env, **settings), Answers()
    for _ in range(3):
        algorithm.learn(1, callback=callback, reset_num_timesteps=False)
    weights = torch.cat([p.detach().flatten() for p in algorithm.policy.parameters()])
    return np.concatenate(callback.actions), weights


@pytest.mark.parametrize("kl_coef", [0.0, 0.2])
@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, mode) for name in WITH_CRITIC for mode in MODES]
    + [(name, mode) for name in OF_WHOLE_ANSWERS for mode in MODES[:2]],
)
def test_units_change_nothing(model, name, mode, kl_coef):
    """The penalty's price is in the scorer's units too; powers of two round nowhere."""
    settings = (WITH_CRITIC | OF_WHOLE_ANSWERS)[name]
    expected, weights = answers(name, model, 1.0, mode, kl_coef=kl_coef, **settings)
    # A2C's one step begins where the critic's bias fits best: its gradient is rounding, which AdamW
    # makes a whole step of.
    exact = kl_coef or name == "A2C"
    for units in (64.0, 1 / 64) if exact else ():
        actions, same = answers(name, model, units, mode, kl_coef=kl_coef, **settings)
        np.testing.assert_array_equal(actions, expected)
        torch.testing.assert_close(same, weights, rtol=0, atol=0)
    for units in () if exact else (100.0, 0.01):
        actions, _ = answers(name, model, units, mode, kl_coef=kl_coef, **settings)
        np.testing.assert_array_equal(actions, expected)


@pytest.mark.parametrize("name", list(WITH_CRITIC))
def test_a_truncated_rest_is_worth_what_the_critic_says(model, name):
    """In the critic's units, whatever rewards are divided by; it is no part of any return."""
    env = small_env(model, eos_token_id=(1, 7, 8), scorer=scores(100.0), on_max_length="truncate")
    algorithm = make(name, model, env, n_steps=10, learning_rate=0.0, reward_scaling=True)
    torch.nn.init.constant_(algorithm.policy.value_head.bias, 2.0 / algorithm.policy.value_scale)
    rollouts(algorithm)
    buffer = algorithm.rollout_buffer
    truncated = buffer.bootstraps != 0
    assert 0 < truncated.sum() < buffer.rewards.size
    np.testing.assert_allclose(buffer.bootstraps[truncated], 2.0, atol=1e-5)
    np.testing.assert_array_equal(buffer.rewards[truncated], 0.0)
    np.testing.assert_allclose(buffer.advantages[truncated], 0.0, atol=1e-5)
    ended = [s for s in buffer.segments() if buffer.ends(s)]
    paid = [buffer.rewards[s.start : s.stop, s.env].sum() for s in ended]
    assert algorithm.shaping.divisor > 10
    np.testing.assert_allclose(np.std(paid), 1.0, rtol=1e-5)  # no value is among the returns


def test_the_greedy_baseline_is_in_the_units_of_the_returns(model):
    """The same scores scaled and not: the advantages differ by the divisor alone."""
    settings = {"learning_rate": 0.0, "gamma": 0.9}
    advantages = {}
    for scaling in (False, True):
        env = small_env(model, eos_token_id=(1, 7, 8), scorer=scores(10.0), group_size=4)
        algorithm = rollouts(make("ReMax", model, env, reward_scaling=scaling, **settings))
        buffer = algorithm.rollout_buffer
        advantages[scaling] = buffer.advantages[buffer.places(buffer.segments())]
    assert algorithm.shaping.divisor > 2
    np.testing.assert_allclose(
        advantages[True] * algorithm.shaping.divisor, advantages[False], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("units", [100.0, 1.0, 1e-2, 1e-8])
def test_the_unit_of_values_is_proportional_to_them(units):
    spread, equal, nothing = RunningMoments(), RunningMoments(), RunningMoments()
    assert spread.unit(0.0) == 1.0  # nothing was seen
    spread.update(units * np.array([1.0, 3.0]))
    equal.update(units * np.full(5, -0.3))
    nothing.update(np.zeros(5))
    assert spread.unit(0.0) == pytest.approx(units)
    assert equal.unit(0.0) == pytest.approx(0.3 * units)
    assert nothing.unit(0.0) == 1.0


def test_rounding_is_not_blown_up():
    """Returns that are nothing but a penalty of rounding errors are not divided by these."""
    moments = RunningMoments()
    moments.update(1e-7 * np.array([1.0, -2.0, 0.5]))
    assert moments.unit(1e-5) == 1.0
