"""The instruments as text."""

from __future__ import annotations

import re

import gymnasium as gym
import llm_gym_autopilot  # noqa: F401 -- registers
import numpy as np
import pytest
from llm_gym_autopilot.aircraft import NAVION
from llm_gym_autopilot.rendering import CockpitFrame, instrument_line
from llm_gym_autopilot.telemetry import Telemetry

TELEMETRY = Telemetry(
    1503.4, 53.24, 1.21, 4.2, 2.1, -0.3, 1.036, -1.44, 0.62, 0.58, 2000.0, 1580.0, 55.0,
    76.6, 1.76, 0.41, -0.2,
)  # fmt: skip


def line(**values):
    usual = {"limits": NAVION, "turbulence": "moderate", "time_s": 12.4, "reward": 0.934}
    return instrument_line(CockpitFrame.at(TELEMETRY, **(usual | values)))


def test_every_value_has_its_name_and_unit():
    assert line() == (
        "t 12.4 s | altitude 1503 m (target 1580, error +77) | "
        "airspeed 53.2 m/s (target 55.0, error +1.8) | climb +1.2 m/s | pitch +4.2 deg | "
        "angle of attack +2.1 deg | pitch rate -0.3 deg/s | load factor 1.04 | "
        "elevator -1.4 deg | throttle 62 % (power 58 %) | "
        "gust +0.4 m/s up, -0.2 m/s forward | turbulence moderate | reward 0.93"
    )


def test_the_end_is_told_and_an_unknown_reward_is_not():
    assert line(cause="load_factor").endswith("| ended by load factor")
    assert "reward" not in line(reward=None)


def test_it_is_one_line_of_ascii():
    assert line(cause="ground").isascii()
    assert "\n" not in line(cause="ground")


def test_environment_renders_it():
    env = gym.make("llm_gym/Autopilot-v0", render_mode="ansi", turbulence="light")
    env.reset(seed=4, options={"target_altitude": 1234.0})
    _, reward, _, _, info = env.step(np.zeros(2, dtype=np.float32))
    text = env.render()
    assert text.startswith("t 0.2 s | altitude ")
    assert "(target 1234, error" in text
    assert "turbulence light" in text
    [shown] = re.findall(r"airspeed ([\d.]+) m/s", text)
    assert float(shown) == pytest.approx(info["airspeed_mps"], abs=0.051)
    [shown] = re.findall(r"reward ([\d.]+)", text)
    assert float(shown) == pytest.approx(reward, abs=0.0051)
