"""Rules of thumb: if this is so, click the stick or the throttle once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.pilots.protocol import Array, ArrayPilot, Sight, check_numbers
from llm_gym_autopilot.task import CENTRE_AIRSPEED, ELEVATOR_CLICK, THROTTLE_CLICK

__all__ = ["RulePilot", "TunedRulePilot"]


@dataclass(frozen=True)
class RulePilot(ArrayPilot):
    """The first rules one thinks of. They never look at the altitude.

    1. Nose above `pitch` and faster than `slow`: push. Nose below -`pitch` and slower than `fast`:
       pull.
    2. Too fast by more than `airspeed_band`: less throttle. Too slow: more.

    Push and pull are clicks, as in the discrete environment: 0.6 degrees from the last elevator, 5
    % from the last throttle.

    Attributes:
        pitch: rad.
        slow: m/s.
        fast: m/s.
        airspeed_band: m/s.
    """

    pitch: Any = 0.04
    slow: Any = 45.0
    fast: Any = 62.0
    airspeed_band: Any = 1.0

    def __post_init__(self) -> None:
        check_numbers(self)

    def _fly(self, seen: Sight, memory: NDArray[Any]) -> tuple[Array, Array, NDArray[Any]]:
        push = (seen.pitch > self.pitch) & (seen.airspeed > self.slow)
        pull = (seen.pitch < -self.pitch) & (seen.airspeed < self.fast)
        nose_up = pull.astype(np.float64) - push
        more = _click(seen.airspeed_error, self.airspeed_band)
        return (
            seen.elevator - ELEVATOR_CLICK * nose_up,
            seen.throttle + THROTTLE_CLICK * more,
            memory,
        )


@dataclass(frozen=True)
class TunedRulePilot(ArrayPilot):
    """Rules a patient person arrives at: each quantity has a wanted value and a band around it.

    1. Off the target altitude: want to climb at the error divided by `altitude_time`, at most
       `climb_limit`.
    2. Climbing less than wanted: want to pitch up at `turn_rate` for each m/s missing, at most
       `rate_limit`.
    3. Pitch rate below what is wanted by more than `rate_band`: one click nose up; above: nose
       down.
    4. Want the throttle `cruise_throttle`, `airspeed_throttle` more for each m/s of the target
       airspeed above 53.6, `error_throttle` for each m/s too slow, `climb_throttle` for each m/s of
       wanted climb.
    5. Throttle below what is wanted by more than `throttle_band`: one click more; above: less.

    The numbers are what `python -m llm_gym_autopilot tune rule` finds (seed 0, 46,080 episodes in
    up to moderate turbulence, on the return).

    Attributes:
        altitude_time: s.
        climb_limit: m/s.
        turn_rate: rad/s per m/s.
        rate_limit: rad/s.
        rate_band: rad/s.
        cruise_throttle: Share of full throttle.
        airspeed_throttle: s/m.
        error_throttle: s/m.
        climb_throttle: s/m.
        throttle_band: Share of full throttle.
    """

    altitude_time: Any = 2.34
    climb_limit: Any = 10.4
    turn_rate: Any = 0.0262
    rate_limit: Any = 0.112
    rate_band: Any = 0.00948
    cruise_throttle: Any = 0.674
    airspeed_throttle: Any = 0.0148
    error_throttle: Any = 0.209
    climb_throttle: Any = 0.0965
    throttle_band: Any = 0.0457

    def __post_init__(self) -> None:
        check_numbers(self)
        check_numbers(self, ("altitude_time",), positive=True)

    def _fly(self, seen: Sight, memory: NDArray[Any]) -> tuple[Array, Array, NDArray[Any]]:
        climb = np.clip(
            seen.altitude_error / self.altitude_time, -self.climb_limit, self.climb_limit
        )
        rate = np.clip(self.turn_rate * (climb - seen.climb), -self.rate_limit, self.rate_limit)
        throttle = (
            self.cruise_throttle
            + self.airspeed_throttle * (seen.target_airspeed - CENTRE_AIRSPEED)
            + self.error_throttle * seen.airspeed_error
            + self.climb_throttle * climb
        )
        nose_up = _click(rate - seen.pitch_rate, self.rate_band)
        more = _click(np.clip(throttle, 0.0, 1.0) - seen.throttle, self.throttle_band)
        return (
            seen.elevator - ELEVATOR_CLICK * nose_up,
            seen.throttle + THROTTLE_CLICK * more,
            memory,
        )


def _click(missing: Array, band: Any) -> Array:
    """1 where more than the band is missing, -1 where more than the band is too much, else 0."""
    return (missing > band).astype(np.float64) - (missing < -band)
