"""Flights whose answers to the page's questions are known, made by hand."""

from __future__ import annotations

import json

import numpy as np

from llm_gym.files import atomic
from llm_gym.runs.flights import COLUMNS, FlightLook, TracedFlight, write_flights

ALTITUDE = [950.0, 960.0, 980.0, 990.0, 997.0, 1001.0]
REWARD = [0.5, 0.5, 0.25, 0.75, 1.0, np.nan]
VALUE = [2.0, 3.0, 1.5, 2.0, 2.5, 4.0]


def flight(name="none", *, cause=None, **changes):
    """Six moments with a target at 1000 m: on it for good from the fifth on."""
    columns = {key: np.zeros(6) for key in COLUMNS} | {
        "altitude_m": np.array(ALTITUDE), "airspeed_mps": np.full(6, 52.5),
        "pitch_deg": np.arange(6.0), "reward": np.array(REWARD), "value": np.array(VALUE),
        "elevator_deg": np.array([-1, 0, 1, 2, 3, np.nan]),
        "throttle": np.array([0.5, 0.5, 0.5, 0.5, 0.25, np.nan]),
    }  # fmt: skip
    fields = {"seed": 7, "target_altitude_m": 1000.0, "target_airspeed_mps": 50.0}
    return TracedFlight(name, cause=cause, columns=columns, **(fields | changes))


def write_flown(directory, step, *flights, algorithm="PPO", gamma=0.5):
    return write_flights(directory, FlightLook(step, algorithm, gamma, 0.2, flights))


def write_flying_run(directory):
    """Two looks of two flights each, and the curves."""
    write_flown(directory, 0, flight(), flight("moderate", cause="load_factor"))
    write_flown(directory, 100, flight(), flight("moderate"))
    rows = [{"step": 100 * k, "return/none": 100.0 + k, "stick/moderate": 0.1} for k in (0, 1)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    atomic.write_text(directory / "metrics.jsonl", text)
    return directory
