"""What the instruments show, in units people fly by."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Telemetry"]


class Telemetry(NamedTuple):
    """State of one aeroplane (floats) or of N (arrays `(N,)`), at the end of the last step.

    Attributes:
        altitude_m: above sea level.
        airspeed_mps: true airspeed.
        climb_mps: rate of climb.
        pitch_deg: pitch angle.
        alpha_deg: angle of attack.
        pitch_rate_dps: degrees per second.
        load_factor: lift-ward acceleration the pilot feels, 1 in level flight.
        elevator_deg: last command, trailing edge down positive.
        throttle: last command, 0 to 1.
        power: the engine's power as a share of the largest.
        thrust_n: newton.
        target_altitude_m: what to fly at.
        target_airspeed_mps: what to fly at.
        altitude_error_m: target minus actual.
        airspeed_error_mps: target minus actual.
        gust_mps: vertical gust, upward positive.
        gust_longitudinal_mps: gust along the aeroplane's nose, from behind positive.
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
