"""What the instruments show, in units people fly by."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Telemetry"]


class Telemetry(NamedTuple):
    """State of one aeroplane (floats) or of N (arrays `(N,)`), at the end of the last step.

    Attributes:
        altitude_m: Above sea level.
        airspeed_mps: True airspeed.
        climb_mps: Rate of climb.
        pitch_deg: Pitch angle.
        alpha_deg: Angle of attack.
        pitch_rate_dps: Degrees per second.
        load_factor: Lift-ward acceleration the pilot feels, 1 in level flight.
        elevator_deg: Last command, trailing edge down positive.
        throttle: Last command, 0 to 1.
        power: The engine's power as a share of the largest.
        thrust_n: newton.
        target_altitude_m: What to fly at.
        target_airspeed_mps: What to fly at.
        altitude_error_m: Target minus actual.
        airspeed_error_mps: Target minus actual.
        gust_mps: Vertical gust, upward positive.
        gust_longitudinal_mps: Gust along the aeroplane's nose, from behind positive.
    """

    altitude_m: Any
    airspeed_mps: Any
    climb_mps: Any
    pitch_deg: Any
    alpha_deg: Any
    pitch_rate_dps: Any
    load_factor: Any
    elevator_deg: Any
    throttle: Any
    power: Any
    thrust_n: Any
    target_altitude_m: Any
    target_airspeed_mps: Any
    altitude_error_m: Any
    airspeed_error_mps: Any
    gust_mps: Any
    gust_longitudinal_mps: Any
