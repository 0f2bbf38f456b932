"""The environments of one and of many aeroplanes: their contract, and that they agree."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from llm_gym_autopilot import task
from llm_gym_autopilot.aircraft import NAVION

from llm_gym.testing.conformance import EnvironmentConformance, VectorEnvironmentConformance

IDS = ("llm_gym/Autopilot-v0", "llm_gym/AutopilotDiscrete-v0")
TRIMMED = {"altitude": 1500.0, "airspeed": 55.0, "target_altitude": 1500.0, "trimmed": True}


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
    num_envs = 4
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
        one, other = (env.step(action) for env in envs)
        np.testing.assert_allclose(one[0], other[0], atol=2e-3)
        np.testing.assert_allclose(one[1], other[1], atol=1e-4)
        assert other[0].dtype == np.float32
        assert other[1].dtype == np.float64


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
            *_, single_terminated, single_truncated, info = singles[row].step(action[row])
            assert (single_terminated, single_truncated) == (terminated[row], truncated[row])
            if single_terminated or single_truncated:
                final = infos["final_info"] if mode is AutoresetMode.SAME_STEP else infos
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


def test_infos_are_empty_while_nothing_ends():
    env = gym.make_vec(IDS[0], num_envs=3)
    assert env.reset(seed=0)[1] == {}
    assert env.step(np.zeros((3, 2), np.float32))[4] == {}


# ---------------------------------------------------------------------- the task


def test_observation_is_the_documented_one():
    env = gym.make(IDS[0], turbulence="none").unwrapped
    options = {
        "altitude": 1500.0, "airspeed": 55.0, "target_altitude": 1530.0, "target_airspeed": 52.0,
        "pitch": 0.1, "alpha": 0.05, "q": 0.02,
    }  # fmt: skip
    observation, info = env.reset(seed=0, options=options)
    climb = 55.0 * np.sin(0.1 - 0.05)
    expected = [
        1.0, climb / 6, -0.5, (55 - 53.6) / 12, 0.5, 0.2, 0.5, 2 * info["power"] - 1,
        np.radians(info["elevator_deg"]) / 0.1, 2 * info["throttle"] - 1, (52 - 53.6) / 12,
    ]  # fmt: skip
    np.testing.assert_allclose(observation, expected, atol=1e-6)


def test_reward_terms_are_the_documented_ones():
    env = gym.make(IDS[0], turbulence="none")
    _, before = env.reset(seed=0, options={**TRIMMED, "target_altitude": 1545.0})
    _, reward, *_, info = env.step(np.array([0.1, 0.5], np.float32))
    e, v = abs(info["altitude_error_m"]), abs(info["airspeed_error_mps"])
    elevator = np.radians(abs(info["elevator_deg"] - before["elevator_deg"]))
    moved = elevator / 0.05 + abs(info["throttle"] - before["throttle"]) / 0.2
    terms = info["reward_terms"]
    assert terms["altitude"] == pytest.approx(-0.6 * e / (e + 15))
    assert terms["airspeed"] == pytest.approx(-0.3 * v / (v + 3))
    assert terms["smoothness"] == pytest.approx(-0.1 * min(1, moved))
    assert reward == pytest.approx(1 + sum(terms.values()))
    assert 0.0 <= reward <= 1.0


def test_info_is_what_the_instruments_show():
    env = gym.make(IDS[0], turbulence="severe").unwrapped
    env.reset(seed=1)
    *_, info = env.step(np.array([0.2, 0.1], np.float32))
    assert {name: info[name] for name in env.telemetry()._fields} == env.telemetry()._asdict()


def test_discrete_clicks_move_the_last_commands():
    env = gym.make(IDS[1], turbulence="none")
    _, info = env.reset(seed=0, options=TRIMMED)
    elevator, throttle = info["elevator_deg"], info["throttle"]
    for action, stick, lever in [(0, 0.6, -0.05), (4, 0.0, 0.0), (8, -0.6, 0.05), (2, 0.6, 0.05)]:
        *_, info = env.step(action)
        elevator, throttle = elevator + stick, throttle + lever
        assert info["elevator_deg"] == pytest.approx(elevator)
        assert info["throttle"] == pytest.approx(throttle)


def test_discrete_clicks_stop_at_the_limits():
    env = gym.make(IDS[1], turbulence="none")
    _, info = env.reset(seed=0, options=TRIMMED)
    for _ in range(12):
        *_, info = env.step(3 * 1 + 2)
    assert info["throttle"] == 1.0


@pytest.mark.parametrize(
    ("options", "stick", "throttle", "cause"),
    [
        ({"altitude": 60.0, "target_altitude": 60.0, "pitch": -0.3}, -0.2, -1.0, "ground"),
        ({"airspeed": 40.0}, 0.9, 0.0, "stall"),
        ({"airspeed": 80.0, "target_altitude": 1300.0, "pitch": -0.5}, -0.1, 1.0, "overspeed"),
        ({"airspeed": 80.0}, 1.0, 0.0, "load_factor"),
        ({"target_altitude": 1205.0, "airspeed": 50.0}, 0.05, 1.0, "altitude"),
        ({"airspeed": 60.0}, -1.0, 0.0, "pitch"),
    ],
)
def test_causes(options, stick, throttle, cause):
    options = {"altitude": 1500.0, **options}
    single = gym.make(IDS[0], turbulence="none")
    vector = gym.make_vec(IDS[0], num_envs=2, turbulence="none")
    single.reset(seed=0, options=options)
    vector.reset(seed=0, options=options)
    action = np.array([stick, throttle], np.float32)
    for _ in range(300):
        *_, terminated, truncated, info = single.step(action)
        *_, ends, _, infos = vector.step(np.stack([action, action]))
        assert ends[0] == terminated
        if terminated or truncated:
            break
    assert info["cause"] == cause
    assert infos["cause"][0] == cause
    assert not info["is_success"]


def test_success_is_holding_the_target_for_the_last_15_seconds():
    env = gym.make(IDS[0], turbulence="none")
    _, info = env.reset(seed=0, options={**TRIMMED, "target_airspeed": 55.0})
    action = np.array([-np.radians(info["elevator_deg"]) / 0.17, 2 * info["throttle"] - 1])
    vector = gym.make_vec(IDS[0], num_envs=1, turbulence="none")
    vector.reset(seed=0, options={**TRIMMED, "target_airspeed": 55.0})
    successes = []
    for _ in range(300):
        *_, truncated, info = env.step(action)
        *_, infos = vector.step(action[None])
        successes.append(info["is_success"])
    assert truncated
    assert successes == [False] * 71 + [True] * 229  # 95 % of 75 steps are 72
    assert infos["is_success"].tolist() == [True]


def test_trimmed_flight_goes_straight_on():
    env = gym.make(IDS[0], turbulence="none")
    _, start = env.reset(seed=0, options=TRIMMED)
    action = np.array([-np.radians(start["elevator_deg"]) / 0.17, 2 * start["throttle"] - 1])
    for _ in range(300):
        *_, info = env.step(action)
    assert info["altitude_m"] == pytest.approx(1500.0, abs=1e-6)
    assert info["load_factor"] == pytest.approx(np.cos(np.radians(start["pitch_deg"])), abs=1e-6)


def test_severe_turbulence_is_never_trained_on():
    env = gym.make(IDS[0])
    levels = {env.reset(seed=seed)[1]["turbulence"] for seed in range(60)}
    assert levels == {"none", "light", "moderate"}


def test_starts_lie_in_the_documented_ranges_and_differ():
    env = gym.make_vec(IDS[0], num_envs=500, turbulence="none")
    env.reset(seed=0)
    readings = env.unwrapped.telemetry()
    assert task.START_ALTITUDE[0] <= readings.altitude_m.min()
    assert readings.altitude_m.max() <= task.START_ALTITUDE[1]
    assert readings.airspeed_mps.min() == pytest.approx(task.START_AIRSPEED[0], abs=0.2)
    assert readings.airspeed_mps.max() == pytest.approx(task.START_AIRSPEED[1], abs=0.2)
    assert np.abs(readings.altitude_error_m).max() == pytest.approx(task.TARGET_OFFSET[1], abs=2)
    assert len(np.unique(readings.altitude_m)) == 500
    assert readings.pitch_rate_dps.std() == pytest.approx(np.degrees(0.02), rel=0.1)


# ---------------------------------------------------------------------- state


@pytest.mark.parametrize("env_id", IDS)
def test_a_restored_state_repeats_the_flight_exactly(env_id):
    env = gym.make(env_id, turbulence="moderate").unwrapped
    env.reset(seed=5)
    actions = actions_for(env, 60, 0.2 if env_id == IDS[0] else 1.0)
    for action in actions[:20]:
        env.step(action)
    state = json.loads(json.dumps(env.get_state()))  # it is plain data
    first = [env.step(action) for action in actions[20:]] + [env.reset()]
    other = gym.make(env_id).unwrapped
    observation, info = other.reset(options={"state": state})
    env.set_state(state)
    assert np.array_equal(observation, env._observe())
    assert info["altitude_m"] == env.telemetry().altitude_m
    other.turbulence = env.turbulence
    second = [other.step(action) for action in actions[20:]] + [other.reset()]
    for one, two in zip(first, second, strict=True):
        assert np.array_equal(one[0], two[0])
        assert one[1:] == two[1:]


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
    for one, two in zip(first, second, strict=True):
        for left, right in zip(one, two, strict=True):
            assert np.array_equal(left, right)


def test_gusts_do_not_depend_on_the_start():
    gusts = []
    for options in (None, TRIMMED, {"altitude": 900.0}):
        env = gym.make(IDS[0], turbulence="moderate")
        env.reset(seed=9, options=options)
        steps = [env.step(np.array([0.0, 0.2], np.float32))[4]["gust_mps"] for _ in range(10)]
        gusts.append(steps)
    assert gusts[0] == gusts[1] == gusts[2]


def test_a_row_does_not_depend_on_how_many_others_fly():
    small, large = (gym.make_vec(IDS[0], num_envs=n) for n in (2, 40))
    one, other = small.reset(seed=4)[0], large.reset(seed=4)[0]
    assert np.array_equal(one, other[:2])
    for action in actions_for(large, 200, 0.6):
        one, other = small.step(action[:2]), large.step(action)
        np.testing.assert_allclose(one[0], other[0][:2], atol=3e-7)


# ---------------------------------------------------------------------- bad input


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


def test_out_of_range_actions_are_cut_off():
    results = []
    for action in ([5.0, -7.0], [1.0, -1.0]):
        env = gym.make(IDS[0], turbulence="none")
        env.reset(seed=0)
        results.append(env.step(np.array(action))[0].tolist())
    assert results[0] == results[1]


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


def test_states_of_others_are_refused():
    env = gym.make_vec(IDS[0], num_envs=2).unwrapped
    env.reset(seed=0)
    state = env.get_state()
    other = gym.make_vec(IDS[0], num_envs=3).unwrapped
    other.reset(seed=0)
    with pytest.raises(ValueError, match="shape"):
        other.set_state(state)
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


def test_observation_space_holds_every_limit():
    env = gym.make(IDS[0]).unwrapped
    assert env.observation_space.shape == (11,)
    assert np.isfinite(env.observation_space.high).all()
    assert env.aircraft is NAVION
