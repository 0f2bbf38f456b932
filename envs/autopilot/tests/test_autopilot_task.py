"""The task of one aeroplane: observation, reward, ends and starts are the documented ones."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from llm_gym_autopilot import task
from llm_gym_autopilot.aircraft import NAVION
from llm_gym_autopilot.pilots import load_pilot

IDS = ("llm_gym/Autopilot-v0", "llm_gym/AutopilotDiscrete-v0")
TRIMMED = {"altitude": 1500.0, "airspeed": 55.0, "target_altitude": 1500.0, "trimmed": True}


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


@pytest.mark.parametrize("level", ["none", "light"])
@pytest.mark.parametrize("vector", [False, True], ids=["single", "vector"])
def test_gusts_widen_the_bands_of_success(level, vector):
    """Ten metres off are beyond the 20 ft of still air, and within the 50 ft of gusts."""
    make = gym.make_vec if vector else gym.make
    env = make(IDS[0], turbulence=level)
    options = {**TRIMMED, "target_altitude": TRIMMED["altitude"] + 10.0, "target_airspeed": 55.0}
    observation, info = env.reset(seed=0, options=options)
    pilot, state, off = load_pilot("pid"), None, np.zeros(11, np.float32)
    off[0] = 10.0 / task.ALTITUDE_SCALE
    for _ in range(300):
        action, state = pilot.predict(observation - off, state)
        observation, *_, info = env.step(action)
    assert np.all(info["is_success"]) == (level == "light")


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


def test_gusts_do_not_depend_on_the_start():
    gusts = []
    for options in (None, TRIMMED, {"altitude": 900.0}):
        env = gym.make(IDS[0], turbulence="moderate")
        env.reset(seed=9, options=options)
        steps = [env.step(np.array([0.0, 0.2], np.float32))[4]["gust_mps"] for _ in range(10)]
        gusts.append(steps)
    assert gusts[0] == gusts[1] == gusts[2]


def test_out_of_range_actions_are_cut_off():
    results = []
    for action in ([5.0, -7.0], [1.0, -1.0]):
        env = gym.make(IDS[0], turbulence="none")
        env.reset(seed=0)
        results.append(env.step(np.array(action))[0].tolist())
    assert results[0] == results[1]


def test_observation_space_holds_every_limit():
    env = gym.make(IDS[0]).unwrapped
    assert env.observation_space.shape == (11,)
    assert np.isfinite(env.observation_space.high).all()
    assert env.aircraft is NAVION
