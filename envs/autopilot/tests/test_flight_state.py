"""A flight is kept and goes on bit for bit, alone and among others."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

IDS = ("llm_gym/Autopilot-v0", "llm_gym/AutopilotDiscrete-v0")


def actions_for(env, steps, scale=1.0, seed=0):
    env.action_space.seed(seed)
    actions = [env.action_space.sample() for _ in range(steps)]
    return actions if scale == 1.0 else [scale * a for a in actions]


@pytest.mark.parametrize("env_id", IDS)
def test_a_restored_state_repeats_the_flight_exactly(env_id):
    env = gym.make(env_id, turbulence="moderate").unwrapped
    env.reset(seed=5)
    actions = actions_for(env, 60, 0.2 if env_id == IDS[0] else 1.0)
    for action in actions[:20]:
        env.step(action)
    state = json.loads(json.dumps(env.get_state()))  # it is plain data
    first = [env.step(action) for action in actions[20:]] + [env.reset()]
    restored = gym.make(env_id).unwrapped
    observation, info = restored.reset(options={"state": state})
    env.set_state(state)
    assert np.array_equal(observation, env._observe())
    assert info["altitude_m"] == env.telemetry().altitude_m
    restored.turbulence = env.turbulence
    second = [restored.step(action) for action in actions[20:]] + [restored.reset()]
    for before, after in zip(first, second, strict=True):
        assert np.array_equal(before[0], after[0])
        assert before[1:] == after[1:]


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_restored_vector_state_repeats_everything_exactly(mode, dtype):
    env = gym.make_vec(IDS[0], num_envs=5, autoreset_mode=mode, max_episode_steps=30, dtype=dtype)
    env.reset(seed=2)
    actions = actions_for(env, 150, 0.5)
    for action in actions[:50]:
        env.step(action)
    state = env.unwrapped.get_state()
    first = [env.step(action)[:4] for action in actions[50:]]
    env.unwrapped.set_state(state)
    second = [env.step(action)[:4] for action in actions[50:]]
    for before, after in zip(first, second, strict=True):
        for left, right in zip(before, after, strict=True):
            assert np.array_equal(left, right)


def test_a_state_that_was_kept_stays_what_it_was():
    env = gym.make_vec(IDS[0], num_envs=2, max_episode_steps=1, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.step(np.zeros((2, 2), np.float32))
    state = env.unwrapped.get_state()
    env.reset(options={"reset_mask": np.array([True, False])})
    assert state["ended"].tolist() == [True, True]
    again = env.unwrapped.get_state()
    assert again["ended"].tolist() == [False, True]
    env.unwrapped.set_state(state)
    env.reset(options={"reset_mask": np.array([True, True])})
    assert state["ended"].tolist() == [True, True]


def test_states_of_others_are_refused():
    env = gym.make_vec(IDS[0], num_envs=2).unwrapped
    env.reset(seed=0)
    state = env.get_state()
    larger = gym.make_vec(IDS[0], num_envs=3).unwrapped
    larger.reset(seed=0)
    with pytest.raises(ValueError, match="shape"):
        larger.set_state(state)
    with pytest.raises(ValueError, match="state lacks fleet"):
        env.set_state({key: value for key, value in state.items() if key != "fleet"})
    single = gym.make(IDS[0]).unwrapped
    single.reset(seed=0)
    with pytest.raises(ValueError, match="state is of aircraft 'kite'"):
        single.set_state({**single.get_state(), "aircraft": "kite"})
    elsewhere = single.get_state()
    elsewhere["flight"] = {"commands": []}
    with pytest.raises(ValueError, match="state is of another simulator"):
        single.set_state(elsewhere)
    with pytest.raises(TypeError, match="state must be a dict"):
        single.reset(options={"state": 3})
