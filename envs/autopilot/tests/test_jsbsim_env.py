"""The task in JSBSim: the contract, and the parity with the fast environment."""

from __future__ import annotations

import copy
import json

import gymnasium as gym
import numpy as np
import pytest

from llm_gym.testing.conformance import EnvironmentConformance, assert_same

pytest.importorskip("jsbsim")

import llm_gym_autopilot  # noqa: F401

CONTINUOUS, DISCRETE = "llm_gym/AutopilotJSBSim-v0", "llm_gym/AutopilotJSBSimDiscrete-v0"
BOTH = pytest.mark.parametrize("aircraft", ["navion", "c172p"])


class TestContinuous(EnvironmentConformance):
    max_steps = 300

    def make_env(self):
        return gym.make(CONTINUOUS)


class TestDiscrete(EnvironmentConformance):
    max_steps = 300

    def make_env(self):
        return gym.make(DISCRETE)


class TestCessna(EnvironmentConformance):
    max_steps = 300

    def make_env(self):
        return gym.make(CONTINUOUS, aircraft="c172p")


def steady(observation: np.ndarray) -> np.ndarray:
    """Stick and throttle that follow the target gently, float32 `(2,)`."""
    pitch = 0.05 * observation[0] - 0.05 * observation[1]
    stick = 0.6 * (pitch - 0.2 * observation[6]) - 0.15 * observation[5]
    return np.array([stick, 0.3 + 0.5 * observation[2]], dtype=np.float32).clip(-1, 1)


def episode(env: gym.Env, actions: list[np.ndarray]) -> list:
    return [env.step(action) for action in actions]


@pytest.mark.parametrize("level", ["none", "moderate"])
def test_the_same_weather_and_actions_lead_to_the_same_place(level):
    fast = gym.make("llm_gym/Autopilot-v0", turbulence=level).unwrapped
    slow = gym.make(CONTINUOUS, turbulence=level).unwrapped
    observation, info = fast.reset(seed=4)
    observation_there, info_there = slow.reset(seed=4)
    np.testing.assert_allclose(observation_there, observation, atol=1e-5)
    altitudes, rewards, rewards_there = [], [], []
    for _ in range(300):
        action = steady(observation)
        observation, reward, ended, _, info = fast.step(action)
        observation_there, reward_there, ended_there, _, info_there = slow.step(action)
        assert not ended
        assert not ended_there
        assert info_there["gust_mps"] == info["gust_mps"]
        assert info_there["load_factor"] == pytest.approx(info["load_factor"], abs=0.02)
        # Commands and gusts reach JSBSim's forces one frame later.
        np.testing.assert_allclose(observation_there, observation, atol=0.02)
        altitudes.append(info_there["altitude_m"] - info["altitude_m"])
        rewards.append(reward)
        rewards_there.append(reward_there)
        assert abs(slow._flight.bank) < np.radians(3.0)
    assert np.abs(altitudes).max() < 0.5
    assert np.sum(rewards_there) == pytest.approx(np.sum(rewards), rel=0.005)


def test_the_start_is_that_of_the_fast_environment_options_included():
    options = {"altitude": 1000.0, "airspeed": 50.0, "pitch": 0.1, "alpha": 0.05, "q": -0.1}
    fast, slow = gym.make("llm_gym/Autopilot-v0"), gym.make(CONTINUOUS)
    for start in (None, options, {"trimmed": True}):
        expected, _ = fast.reset(seed=3, options=start)
        observation, _ = slow.reset(seed=3, options=start)
        np.testing.assert_allclose(observation, expected, atol=1e-5)


@BOTH
def test_a_state_is_restored_to_the_last_bit(aircraft):
    env = gym.make(CONTINUOUS, aircraft=aircraft, turbulence="light").unwrapped
    observation, _ = env.reset(seed=1)
    for _ in range(20):
        observation, *_ = env.step(steady(observation))
    state = json.loads(json.dumps(env.get_state()))  # plain numbers all through
    kept = copy.deepcopy(state)
    actions = [env.action_space.sample() * np.float32(0.2) for _ in range(15)]
    expected = episode(env, actions)

    env.set_state(state)
    assert_same(episode(env, actions), expected, "restored in place")
    fresh = gym.make(CONTINUOUS, aircraft=aircraft).unwrapped
    restored, _ = fresh.reset(options={"state": state})
    np.testing.assert_array_equal(restored, observation)
    assert_same(episode(fresh, actions), expected, "restored in another environment")
    assert state == kept
    # And a state taken after a restored one holds the whole flight.
    assert len(fresh.get_state()["flight"]["inputs"]) == 35


@BOTH
def test_later_episodes_repeat_too(aircraft):
    env = gym.make(CONTINUOUS, aircraft=aircraft)

    def two_episodes() -> list:
        steps = []
        for seed in (5, None):
            observation, info = env.reset(seed=seed)
            steps.append((observation, info))
            steps.extend(episode(env, [steady(observation)] * 10))
        return steps

    first = two_episodes()
    assert_same(two_episodes(), first, "same seed, same episodes")


def test_the_cessna_begins_with_the_commands_of_its_trim():
    env = gym.make(DISCRETE, aircraft="c172p", turbulence="none").unwrapped
    observation, info = env.reset(seed=0, options={"airspeed": 55.0, "altitude": 1500.0})
    flight = env._flight
    assert observation[8] == pytest.approx(flight.elevator / 0.1, rel=1e-6)
    assert observation[7] == observation[9] == pytest.approx(2 * flight.throttle - 1, rel=1e-6)
    assert info["elevator_deg"] > 1.0
    assert info["pitch_rate_dps"] == 0.0
    assert info["airspeed_mps"] == pytest.approx(55.0, abs=1e-3)
    before = info["altitude_m"]
    for _ in range(100):
        _, _, _, _, info = env.step(4)  # no click
    assert info["altitude_m"] == pytest.approx(before, abs=0.3)


def test_the_cessna_refuses_an_attitude():
    env = gym.make(CONTINUOUS, aircraft="c172p")
    with pytest.raises(ValueError, match=r"'c172p'.*leave out alpha, pitch"):
        env.reset(seed=0, options={"pitch": 0.1, "alpha": 0.05})


def test_a_start_that_fails_leaves_no_episode(capfd):
    env = gym.make(CONTINUOUS, aircraft="c172p").unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="slower"):
        env.reset(options={"airspeed": 80.0})
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(2, dtype=np.float32))
    env.reset(seed=0)
    env.step(np.zeros(2, dtype=np.float32))


def test_states_do_not_go_from_one_aeroplane_to_the_other():
    env = gym.make(CONTINUOUS, aircraft="c172p").unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="c172p"):
        gym.make(CONTINUOUS).unwrapped.set_state(env.get_state())
    fast = gym.make("llm_gym/Autopilot-v0").unwrapped
    fast.reset(seed=0)
    with pytest.raises(ValueError, match="not of a JSBSim flight"):
        gym.make(CONTINUOUS).unwrapped.set_state(fast.get_state())


def test_there_is_no_state_before_the_first_start(capfd):
    env = gym.make(CONTINUOUS, aircraft="c172p").unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        env.get_state()
    with pytest.raises(ValueError, match="slower"):
        env.reset(seed=0, options={"airspeed": 80.0})
    with pytest.raises(gym.error.ResetNeeded):
        env.get_state()


def test_an_unknown_aeroplane_is_refused():
    with pytest.raises(ValueError, match=r"aircraft='f16'.*navion, c172p"):
        gym.make(CONTINUOUS, aircraft="f16")
