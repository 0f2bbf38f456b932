"""A result does not depend on the units that a scorer counts in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.learning.advantages import gae
from llm_gym.learning.shaping import RunningMoments
from tests.learning.online_worlds import MODEL, make, rollouts, small_env
from tests.products import covering

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
PRICES = [0.2, 0.0]


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


@pytest.mark.parametrize(
    ("mode", "kl_coef", "name"),
    [*covering(MODES, PRICES, WITH_CRITIC), *covering(MODES[:2], PRICES, OF_WHOLE_ANSWERS)],
)
def test_units_change_nothing(model, name, mode, kl_coef):
    """The penalty's price is in the scorer's units too; powers of two round nowhere."""
    settings = (WITH_CRITIC | OF_WHOLE_ANSWERS)[name]
    expected, weights = answers(name, model, 1.0, mode, kl_coef=kl_coef, **settings)
    # A2C's one step begins where the critic's bias fits best: its gradient is rounding, which AdamW
    # makes a whole step of.
    exact = kl_coef or name == "A2C"
    small = mode == "penalise"  # the others are tried with large ones
    base = 64.0 if exact else 100.0
    units = 1 / base if small else base
    actions, same = answers(name, model, units, mode, kl_coef=kl_coef, **settings)
    np.testing.assert_array_equal(actions, expected)
    if exact:
        torch.testing.assert_close(same, weights, rtol=0, atol=0)


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


@pytest.mark.parametrize("chosen", [{"n_steps": 4}, {}], ids=["cut", "whole"])
@pytest.mark.parametrize("name", ["PPO", "A2C"])
def test_values_keep_their_worth_when_the_unit_of_returns_changes(model, name, chosen):
    """Returns grow from rollout to rollout; nothing is learnt, so what a state is worth stays."""
    units = iter([1.0, 30.0, 900.0])
    now = [1.0]

    def growing(prompts, completions, **_):
        return [now[0] * (0.1 + text.split().count("w1")) for text in completions]

    env = small_env(model, eos_token_id=(1, 7, 8), scorer=growing, on_max_length="truncate")
    algorithm = make(name, model, env, learning_rate=0.0, reward_scaling=True, **chosen)
    policy, buffer = algorithm.policy, algorithm.rollout_buffer
    with torch.no_grad():
        policy.value_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    probe = {key: torch.as_tensor(value) for key, value in algorithm.env.reset().items()}
    worth, divisors, rests = [], [], []
    shape = buffer.before_returns

    def observed(rollout):
        rests.append((rollout.bootstraps * algorithm.shaping.divisor).copy())  # as collected
        shape(rollout)
        rests.append(rollout.bootstraps * algorithm.shaping.divisor)

    buffer.before_returns = observed
    for unit in units:
        now[0] = unit
        rollouts(algorithm)
        divisors.append(algorithm.shaping.divisor)
        with torch.no_grad():
            worth.append(policy.predict_values(probe) * divisors[-1])
            batch = buffer.episode_batch(buffer.segments())
            values = policy.predict_values(batch).flatten().numpy()
            last = policy.predict_values(
                {key: torch.as_tensor(value) for key, value in algorithm._last_obs.items()}
            )
        places = buffer.places(buffer.segments())
        np.testing.assert_allclose(buffer.values[places], values, rtol=1e-4, atol=1e-5)
        if chosen:  # in the same units: the rewards, the values, and those after the last step
            expected = gae(
                buffer.rewards + buffer.bootstraps,
                buffer.values,
                buffer.episode_starts,
                last.flatten().numpy(),
                algorithm._last_episode_starts,
                gamma=algorithm.gamma,
                gae_lambda=algorithm.gae_lambda,
            )
            np.testing.assert_allclose(buffer.advantages, expected, rtol=1e-3, atol=1e-4)
    assert rests[-1].any()
    for before, after in zip(rests[2::2], rests[3::2], strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    assert divisors[2] > 5 * divisors[1] > 5 * divisors[0]
    for other in worth[1:]:
        torch.testing.assert_close(other, worth[0], rtol=1e-4, atol=1e-4)
