"""The environments of one and of many aeroplanes: their contract, and that they agree."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from llm_gym.testing.conformance import EnvironmentConformance, VectorEnvironmentConformance

IDS = ("llm_gym/Autopilot-v0", "llm_gym/AutopilotDiscrete-v0")


class TestAutopilot(EnvironmentConformance):
    max_steps = 300

    def make_env(self):
        return gym.make("llm_gym/Autopilot-v0")


class TestAutopilotDiscrete(EnvironmentConformance):
    max_steps = 300

    def make_env(self):
        return gym.make("llm_gym/AutopilotDiscrete-v0")


class VectorRules(VectorEnvironmentConformance):
    env_id: str
    num_steps = 400
    num_envs = 2
    tolerance = 3e-7  # observations are float32; the states agree far better, see below
    infos_of_all_steps = False

    def make_env(self, row, num_rows):
        return gym.make(self.env_id)

    def make_vector_env(self, num_envs, autoreset_mode):
        return gym.make_vec(self.env_id, num_envs=num_envs, autoreset_mode=autoreset_mode)


class TestAutopilotVector(VectorRules):
    env_id = IDS[0]


class TestAutopilotDiscreteVector(VectorRules):
    env_id = IDS[1]


def make_pair(env_id, num_envs=4, mode=AutoresetMode.SAME_STEP, **kwargs):
    native = gym.make_vec(env_id, num_envs=num_envs, autoreset_mode=mode, **kwargs)
    singles = [gym.make(env_id, **kwargs) for _ in range(num_envs)]
    return native, singles


def actions_for(env, steps, scale=1.0, seed=0):
    env.action_space.seed(seed)
    actions = [env.action_space.sample() for _ in range(steps)]
    return actions if scale == 1.0 else [scale * a for a in actions]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("turbulence", ["none", "severe", "mixed"])
def test_single_and_vector_agree_to_1e_9(env_id, turbulence):
    native, singles = make_pair(env_id, turbulence=turbulence)
    native.reset(seed=20)
    for row, env in enumerate(singles):
        env.reset(seed=20 + row)
    worst = 0.0
    for action in actions_for(native, 60, 0.2 if env_id == IDS[0] else 1.0):
        result = native.step(action)
        steps = [env.step(action[row]) for row, env in enumerate(singles)]
        assert not result[2].any(), "the comparison is of running episodes"
        worst = max(worst, np.abs(result[1] - [s[1] for s in steps]).max())
        readings = native.unwrapped.telemetry()
        for row, env in enumerate(singles):
            single = env.unwrapped.telemetry()
            for name in single._fields:
                difference = abs(getattr(readings, name)[row] - getattr(single, name))
                assert difference < 1e-9 * max(1.0, abs(getattr(single, name))), name
    assert worst < 1e-9


def test_float32_stays_near_float64():
    envs = [
        gym.make_vec(IDS[0], num_envs=50, dtype=d, turbulence="none")
        for d in ("float64", "float32")
    ]
    for env in envs:
        env.reset(seed=1)
    for action in actions_for(envs[0], 50, 0.1):
        double, single = (env.step(action) for env in envs)
        np.testing.assert_allclose(double[0], single[0], atol=2e-3)
        np.testing.assert_allclose(double[1], single[1], atol=1e-4)
        assert single[0].dtype == np.float32
        assert single[1].dtype == np.float64


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_final_infos_are_those_of_the_single_environment(mode):
    native, singles = make_pair(IDS[0], 6, mode, turbulence="moderate", max_episode_steps=120)
    native.reset(seed=3)
    for row, env in enumerate(singles):
        env.reset(seed=3 + row)
    ended = np.zeros(6, bool)
    # Half of the rows pull up until they stall; the others are left to the time limit.
    action = np.array([[0.9, 0.0]] * 3 + [[0.0, 0.2]] * 3, dtype=np.float32)
    seen = set()
    for _ in range(120):
        *_, terminated, truncated, infos = native.step(action)
        for row in np.flatnonzero(~ended):
            last, _, single_terminated, single_truncated, info = singles[row].step(action[row])
            assert (single_terminated, single_truncated) == (terminated[row], truncated[row])
            if single_terminated or single_truncated:
                final = infos["final_info"] if mode is AutoresetMode.SAME_STEP else infos
                if mode is AutoresetMode.SAME_STEP:
                    np.testing.assert_allclose(infos["final_obs"][row], last, atol=3e-7)
                for key in ("cause", "is_success", "turbulence"):
                    assert final[key][row] == info[key]
                    assert final["_" + key][row]
                assert final["altitude_error_m"][row] == pytest.approx(
                    info["altitude_error_m"], abs=1e-9
                )
                assert final["airspeed_error_mps"][row] == pytest.approx(
                    info["airspeed_error_mps"], abs=1e-9
                )
                seen.add(info["cause"])
        ended |= terminated | truncated
        if ended.all() or (mode is AutoresetMode.DISABLED and (terminated | truncated).any()):
            break
    assert seen


def test_a_crash_in_the_last_step_is_a_crash():
    """Where the time limit comes in the same step, nothing is left to bootstrap from."""
    dive = np.full((1, 2), [-0.2, -1.0], np.float32)
    options = {"altitude": 60.0, "target_altitude": 60.0, "pitch": -0.3}

    def flown(limit):
        env = gym.make_vec(IDS[0], num_envs=1, turbulence="none", max_episode_steps=limit)
        env.reset(seed=0, options=options)
        steps, terminated, truncated = 0, [False], [False]
        while not (terminated[0] or truncated[0]):
            _, _, terminated, truncated, _ = env.step(dive)
            steps += 1
        return steps, terminated[0], truncated[0]

    steps, *ends = flown(300)
    assert ends == [True, False]
    assert flown(steps) == (steps, True, False)
    assert flown(steps - 1) == (steps - 1, False, True)


def test_infos_are_empty_while_nothing_ends():
    env = gym.make_vec(IDS[0], num_envs=3)
    assert env.reset(seed=0)[1] == {}
    assert env.step(np.zeros((3, 2), np.float32))[4] == {}


def test_a_row_does_not_depend_on_how_many_others_fly():
    small, large = (gym.make_vec(IDS[0], num_envs=n) for n in (2, 40))
    of_two, of_forty = small.reset(seed=4)[0], large.reset(seed=4)[0]
    assert np.array_equal(of_two, of_forty[:2])
    for action in actions_for(large, 200, 0.6):
        of_two, of_forty = small.step(action[:2]), large.step(action)
        np.testing.assert_allclose(of_two[0], of_forty[0][:2], atol=3e-7)


def test_seeds_one_a_row_and_of_masked_rows():
    env = gym.make_vec(IDS[0], num_envs=3)
    together = env.reset(seed=[7, 8, 9])[0]
    assert np.array_equal(together, env.reset(seed=7)[0])
    for _ in range(3):
        env.step(np.zeros((3, 2), np.float32))
    flown = env.unwrapped.telemetry().altitude_m
    mask = np.array([False, True, False])
    masked = env.reset(seed=[1, 8, 2], options={"reset_mask": mask})[0]
    assert np.array_equal(masked[1], together[1])
    assert env.unwrapped.telemetry().altitude_m[[0, 2]].tolist() == flown[[0, 2]].tolist()
    with pytest.raises(ValueError, match="seed has 2 entries; give one number or 3"):
        env.reset(seed=[1, 2])
