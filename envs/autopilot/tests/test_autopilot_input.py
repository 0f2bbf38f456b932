"""Bad arguments, actions and calls out of turn: one clear error, and nothing changed."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

IDS = ("llm_gym/Autopilot-v0", "llm_gym/AutopilotDiscrete-v0")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"aircraft": "concorde"}, "aircraft='concorde' must be one of navion"),
        ({"aircraft": "c172p"}, "AutopilotJSBSim-v0"),
        ({"turbulence": "awful"}, "turbulence='awful' must be one of none, light"),
        ({"render_mode": "hologram"}, "render_mode='hologram'"),
    ],
)
def test_bad_arguments(kwargs, message):
    from llm_gym_autopilot.single import AutopilotEnv
    from llm_gym_autopilot.vector import AutopilotVectorEnv

    for make in (AutopilotEnv, AutopilotVectorEnv):
        with pytest.raises(ValueError, match=message):
            make(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"num_envs": 0}, ValueError, "num_envs must be at least 1"),
        ({"num_envs": 2.5}, TypeError, "num_envs must be an integer"),
        ({"max_episode_steps": -1}, ValueError, "max_episode_steps must be at least 1"),
        ({"dtype": "float16"}, ValueError, "dtype='float16' must be one of float64, float32"),
        ({"dtype": "no such"}, ValueError, "dtype='no such' must be one of"),
        ({"autoreset_mode": "Sometimes"}, ValueError, "autoreset_mode='Sometimes' must be one of"),
    ],
)
def test_bad_vector_arguments(kwargs, error, message):
    from llm_gym_autopilot.vector import AutopilotVectorEnv

    with pytest.raises(error, match=message):
        AutopilotVectorEnv(**kwargs)


@pytest.mark.parametrize(
    "action", [np.array([np.nan, 0.0]), np.array([0.0, np.inf]), np.zeros(3), 0.5, "up", None]
)
def test_bad_actions(action):
    env = gym.make(IDS[0]).unwrapped
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match="action"):
        env.step(action)
    assert env.get_state() == before, "a refused action changes nothing"


def test_bad_vector_actions():
    env = gym.make_vec(IDS[0], num_envs=3).unwrapped
    env.reset(seed=0)
    bad = np.zeros((3, 2), np.float32)
    bad[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"actions must be finite.*nan"):
        env.step(bad)
    with pytest.raises(ValueError, match=r"shape \(3, 2\); got \(2, 2\)"):
        env.step(np.zeros((2, 2)))
    clicks = gym.make_vec(IDS[1], num_envs=3).unwrapped
    clicks.reset(seed=0)
    for wrong in (np.array([0, 1, 9]), np.array([-1, 0, 0])):
        with pytest.raises(ValueError, match="actions must be from 0 to 8"):
            clicks.step(wrong)
    with pytest.raises(ValueError, match="actions must be integers of shape"):
        clicks.step(np.zeros(3))


def test_vector_calls_before_reset_and_after_an_end():
    env = gym.make_vec(IDS[0], num_envs=2, autoreset_mode="Disabled", max_episode_steps=2).unwrapped
    for call in (lambda: env.step(np.zeros((2, 2))), env.telemetry, env.get_state):
        with pytest.raises(ResetNeeded):
            call()
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.zeros((2, 2)))
    with pytest.raises(ResetNeeded, match=r"rows \[0, 1\] have ended"):
        env.step(np.zeros((2, 2)))
    env.reset(options={"reset_mask": np.array([True, True])})
    env.step(np.zeros((2, 2)))


@pytest.mark.parametrize("mask", [np.array([1, 0]), [True], np.array([False, False])])
def test_bad_reset_masks(mask):
    env = gym.make_vec(IDS[0], num_envs=2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(options={"reset_mask": mask})
