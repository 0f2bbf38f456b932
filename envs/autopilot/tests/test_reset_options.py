"""What `reset(options=...)` takes, for one aeroplane and for many."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from llm_gym_autopilot.aircraft import NAVION
from llm_gym_autopilot.options import read_options


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"altitud": 1000.0}, ValueError, r"'altitud', which is none of .*did you mean 'altitude'"),
        ({"flaps": 1}, ValueError, "'flaps', which is none of"),
        ({"altitude": 1e5}, ValueError, r"\['altitude'\]=100000 is outside the flight envelope"),
        ({"altitude": -5.0}, ValueError, "30 to 3500 m"),
        ({"target_altitude": 9e9}, ValueError, "target_altitude"),
        ({"airspeed": 10.0}, ValueError, "32 to 80 m/s"),
        ({"target_airspeed": 200.0}, ValueError, "target_airspeed"),
        ({"pitch": 1.2}, ValueError, "rad"),
        ({"alpha": 0.5}, ValueError, "alpha"),
        ({"q": 4.0}, ValueError, "rad/s"),
        ({"altitude": float("nan")}, ValueError, "altitude"),
        ({"altitude": "high"}, TypeError, "must be a number in m"),
        ({"altitude": True}, TypeError, "must be a number in m"),
        ({"altitude": [1.0, 2.0]}, ValueError, "shape"),
        ({"turbulence": "awful"}, ValueError, "turbulence='awful' must be one of"),
        ({"turbulence": "mixed"}, ValueError, "must be one of none, light, moderate, severe"),
        ({"trimmed": "yes"}, TypeError, "must be True or False"),
        ({"trimmed": True, "pitch": 0.1}, ValueError, "leave out pitch"),
        ({"altitude": 1000.0, "target_altitude": 2000.0}, ValueError, "1000 m apart"),
        ({"state": {}, "q": 0.1}, ValueError, "leave out q"),
        ({"trimmed": True, "airspeed": 80.0, "altitude": 3000.0}, ValueError, "engine's power"),
    ],
)  # fmt: skip
def test_bad_options(options, error, message):
    env = gym.make("llm_gym/Autopilot-v0")
    env.reset(seed=0)
    with pytest.raises(error, match=message):
        env.reset(options=options)
    vector = gym.make_vec("llm_gym/Autopilot-v0", num_envs=3)
    vector.reset(seed=0)
    with pytest.raises(error, match=message):
        vector.reset(options=options)


def test_options_set_what_they_name():
    env = gym.make("llm_gym/Autopilot-v0", turbulence="light")
    options = {
        "altitude": 1234.0, "airspeed": 51.0, "target_altitude": 1200.0, "target_airspeed": 58.0,
        "pitch": 0.05, "alpha": 0.02, "q": -0.03, "turbulence": "none",
    }  # fmt: skip
    _, info = env.reset(seed=0, options=options)
    assert info["altitude_m"] == 1234.0
    assert info["airspeed_mps"] == pytest.approx(51.0)
    assert info["target_altitude_m"] == 1200.0
    assert info["target_airspeed_mps"] == 58.0
    assert np.radians(info["pitch_deg"]) == pytest.approx(0.05)
    assert np.radians(info["alpha_deg"]) == pytest.approx(0.02)
    assert np.radians(info["pitch_rate_dps"]) == pytest.approx(-0.03)
    assert info["turbulence"] == "none"


def test_a_target_alone_starts_within_reach_of_it():
    env = gym.make("llm_gym/Autopilot-v0")
    for seed in range(20):
        _, info = env.reset(seed=seed, options={"target_altitude": 3000.0})
        assert info["target_altitude_m"] == 3000.0
        assert abs(info["altitude_error_m"]) <= 91.5


def test_vector_options_one_value_a_row():
    env = gym.make_vec("llm_gym/Autopilot-v0", num_envs=4)
    levels = ["none", "light", "moderate", "severe"]
    altitudes = np.array([900.0, 1000.0, 1100.0, 1200.0])
    env.reset(seed=0, options={"altitude": altitudes, "airspeed": 50.0, "turbulence": levels})
    readings = env.unwrapped.telemetry()
    assert readings.altitude_m.tolist() == altitudes.tolist()
    assert abs(readings.gust_mps[0]) == 0.0
    assert (np.abs(readings.gust_mps[1:]) > 0).all()
    with pytest.raises(ValueError, match="a level or 4 of them"):
        env.reset(options={"turbulence": levels[:2]})
    with pytest.raises(ValueError, match="give one number or 4, one an aeroplane"):
        env.reset(options={"altitude": altitudes[:2]})


def test_a_masked_reset_leaves_the_others_alone():
    env = gym.make_vec("llm_gym/Autopilot-v0", num_envs=3, autoreset_mode="Disabled")
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros((3, 2), np.float32))
    before = env.unwrapped.telemetry().altitude_m
    mask = np.array([False, True, False])
    env.reset(options={"reset_mask": mask, "altitude": np.array([800.0, 801.0, 802.0])})
    after = env.unwrapped.telemetry().altitude_m
    assert after.tolist() == [before[0], 801.0, before[2]]


def test_values_are_copied_and_broadcast():
    altitude = np.array([1000.0, 1100.0])
    options = read_options({"altitude": altitude, "airspeed": 50}, NAVION, 2)
    altitude[0] = 0.0
    assert options["altitude"].tolist() == [1000.0, 1100.0]
    assert options["airspeed"].tolist() == [50.0, 50.0]
    assert read_options(None, NAVION) == {}
