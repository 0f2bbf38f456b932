"""Which numbers of which pilots there are to tune, and where a search for them begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.pilots.lqr import LQRPilot
from llm_gym_autopilot.pilots.pid import PIDPilot
from llm_gym_autopilot.pilots.protocol import ArrayPilot
from llm_gym_autopilot.pilots.rule import TunedRulePilot

__all__ = ["SEARCHES", "Numbers", "Search"]

Array = NDArray[np.float64]
Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Search:
    """What there is to tune on a pilot.

    Attributes:
        make: From numbers `(N,)` each to a pilot of N rows.
        start: Where the search begins: guesses of the right order.
        build: From single numbers to the pilot.
    """

    make: Callable[[dict[str, Array]], ArrayPilot]
    start: Numbers
    build: Callable[..., ArrayPilot]


def _make_lqr(numbers: dict[str, Array]) -> ArrayPilot:
    costs = {name: values for name, values in numbers.items() if name.endswith("_cost")}
    limits: dict[str, Any] = {name: numbers[name] for name in numbers.keys() - costs.keys()}
    gains = []
    for row in range(len(next(iter(costs.values())))):
        design: dict[str, Any] = {name: float(values[row]) for name, values in costs.items()}
        gains.append(LQRPilot.design(**design).gain)
    return LQRPilot(np.stack(gains), **limits)


SEARCHES: dict[str, Search] = {
    "rule": Search(
        lambda numbers: TunedRulePilot(**numbers),
        {
            "altitude_time": 5.0,
            "climb_limit": 4.0,
            "turn_rate": 0.01,
            "rate_limit": 0.05,
            "rate_band": 0.01,
            "cruise_throttle": 0.45,
            "airspeed_throttle": 0.01,
            "error_throttle": 0.1,
            "climb_throttle": 0.05,
            "throttle_band": 0.03,
        },
        TunedRulePilot,
    ),
    "pid": Search(
        lambda numbers: PIDPilot(**numbers),
        {
            "altitude_p": 0.2,
            "climb_limit": 4.0,
            "climb_p": 0.02,
            "climb_i": 0.01,
            "pitch_limit": 0.3,
            "pitch_p": 0.5,
            "pitch_d": 0.2,
            "speed_p": 0.1,
            "speed_i": 0.01,
            "speed_filter": 0.5,
            "climb_throttle": 0.03,
        },
        PIDPilot,
    ),
    "lqr": Search(
        _make_lqr,
        {
            "altitude_cost": 15.0,
            "altitude_integral_cost": 60.0,
            "airspeed_cost": 3.0,
            "airspeed_integral_cost": 12.0,
            "pitch_rate_cost": 0.1,
            "pitch_cost": 0.2,
            "elevator_cost": 0.1,
            "throttle_cost": 0.5,
            "altitude_limit": 40.0,
            "altitude_band": 15.0,
            "airspeed_band": 3.0,
        },
        LQRPilot.design,
    ),
}
