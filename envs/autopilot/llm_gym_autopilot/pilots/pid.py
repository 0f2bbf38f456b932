"""PID loops in a cascade, the way autopilots have been built since the 1950s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.pilots.protocol import (
    ELEVATOR_LIMIT,
    Array,
    ArrayPilot,
    Sight,
    check_numbers,
)
from llm_gym_autopilot.task import STEP_SECONDS

__all__ = ["PIDPilot"]


@dataclass(frozen=True)
class PIDPilot(ArrayPilot):
    """Altitude by pitch, speed by throttle.

        wanted climb  = altitude_p * altitude error, at most climb_limit either way
        wanted pitch  = climb_p * climb error + its integral
        elevator      = pitch_p * (pitch - wanted pitch) + pitch_d * pitch rate + start's elevator
        throttle      = speed_p * speed error + its integral + climb_throttle * wanted climb

    The integrals begin at the pitch and throttle that the episode begins with, and stand still
    while pitch or throttle are at a limit (Astrom and Hagglund, *PID Controllers*, 1995, chapter
    3.5: conditional integration). Gusts reach the throttle behind a low pass.

    The numbers are what `python -m llm_gym_autopilot tune pid` finds (seed 0, 46,080 episodes in up
    to moderate turbulence, on the return). They hardly limit climb and pitch: an altitude step is
    flown as fast as the reward likes it, not as a passenger would.

    Attributes:
        altitude_p: Climb per altitude error, 1/s.
        climb_limit: m/s.
        climb_p: Pitch per climb error, rad s/m.
        climb_i: Rate of pitch per climb error, rad/m.
        pitch_limit: Pitch limit of the wanted pitch, rad.
        pitch_p: Elevator per pitch error.
        pitch_d: Elevator per pitch rate, s.
        speed_p: Throttle per speed error, s/m.
        speed_i: Rate of throttle per speed error, 1/m.
        speed_filter: Time constant of the speed error's low pass, s.
        climb_throttle: Throttle per wanted climb, s/m.
    """

    altitude_p: Any = 0.585
    climb_limit: Any = 21.0
    climb_p: Any = 0.0251
    climb_i: Any = 0.03
    pitch_limit: Any = 0.491
    pitch_p: Any = 0.939
    pitch_d: Any = 0.145
    speed_p: Any = 0.208
    speed_i: Any = 0.0165
    speed_filter: Any = 0.51
    climb_throttle: Any = 0.0757

    def __post_init__(self) -> None:
        check_numbers(self)
        check_numbers(self, ("speed_filter",), positive=True)

    def _begin(self, seen: Sight) -> NDArray[Any]:
        """Elevator of the start, integrals of pitch and throttle, filtered speed error."""
        return np.stack([seen.elevator, seen.pitch, seen.throttle, seen.airspeed_error], axis=1)

    def _fly(self, seen: Sight, memory: NDArray[Any]) -> tuple[Array, Array, NDArray[Any]]:
        trim_elevator, pitch_integral, throttle_integral, speed_error = memory.T
        wanted_climb = np.clip(
            self.altitude_p * seen.altitude_error, -self.climb_limit, self.climb_limit
        )
        climb_error = wanted_climb - seen.climb
        pitch_integral = pitch_integral + STEP_SECONDS * self.climb_i * climb_error
        pitch_integral = np.clip(pitch_integral, -self.pitch_limit, self.pitch_limit)
        wanted_pitch = np.clip(
            pitch_integral + self.climb_p * climb_error, -self.pitch_limit, self.pitch_limit
        )
        elevator = (
            trim_elevator
            + self.pitch_p * (seen.pitch - wanted_pitch)
            + self.pitch_d * seen.pitch_rate
        )
        keep = np.exp(-STEP_SECONDS / self.speed_filter)
        speed_error = seen.airspeed_error + keep * (speed_error - seen.airspeed_error)
        throttle = (
            throttle_integral + self.speed_p * speed_error + self.climb_throttle * wanted_climb
        )
        push = STEP_SECONDS * self.speed_i * seen.airspeed_error
        stuck = ((throttle >= 1.0) & (push > 0)) | ((throttle <= 0.0) & (push < 0))
        throttle_integral = np.where(stuck, throttle_integral, throttle_integral + push)
        elevator = np.clip(elevator, -ELEVATOR_LIMIT, ELEVATOR_LIMIT)
        memory = np.stack([trim_elevator, pitch_integral, throttle_integral, speed_error], axis=1)
        return elevator, throttle, memory
