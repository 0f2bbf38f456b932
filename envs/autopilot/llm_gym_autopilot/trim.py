"""Level flight without acceleration: the angle of attack, elevator and throttle that hold it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from llm_gym_autopilot.aircraft import GRAVITY, SEA_LEVEL_DENSITY, Aircraft
from llm_gym_autopilot.dynamics import density_ratio, thrust_per_power

__all__ = ["Trim", "trim"]

_NEWTON_STEPS = 4  # from the linear solution, whose error is some 1e-3: quadratic to rounding


class Trim(NamedTuple):
    """Controls of steady level flight; pitch angle and angle of attack are the same there.

    Attributes:
        alpha: Angle of attack, rad.
        elevator: rad, trailing edge down positive.
        throttle: Share of the engine's power; above 1 where the engine cannot hold the flight.
    """

    alpha: Any
    elevator: Any
    throttle: Any


def trim(aircraft: Aircraft, airspeed: Any, altitude: Any) -> Trim:
    """Solves for steady level flight below the stall.

    The moment balance gives the elevator in terms of the angle of attack and the balance along the
    flight path the thrust; what remains, lift against weight, is one equation for Newton's method.

    Args:
        aircraft: The aeroplane.
        airspeed: m/s, any shape.
        altitude: m, same shape.

    Returns:
        Angle of attack, elevator and throttle of that shape.
    """
    pressure_area = (
        0.5 * SEA_LEVEL_DENSITY * aircraft.wing_area * density_ratio(altitude) * airspeed**2
    )
    weight = aircraft.mass * GRAVITY / pressure_area  # as a lift coefficient
    elevator_per_alpha = -aircraft.moment_alpha / aircraft.moment_elevator
    slope = aircraft.lift_alpha + aircraft.lift_elevator * elevator_per_alpha
    alpha = (weight - aircraft.lift_zero) / slope
    for _ in range(_NEWTON_STEPS):
        wing = aircraft.lift_zero + aircraft.lift_alpha * alpha
        drag = aircraft.drag_minimum + aircraft.drag_induced * wing**2
        tangent = np.tan(alpha)
        # Lift plus the thrust's share, T sin(alpha) with T cos(alpha) = D, is the weight.
        residual = aircraft.lift_zero + slope * alpha + drag * tangent - weight
        drag_slope = 2 * aircraft.drag_induced * wing * aircraft.lift_alpha
        alpha = alpha - residual / (slope + drag_slope * tangent + drag * (1 + tangent**2))
    wing = aircraft.lift_zero + aircraft.lift_alpha * alpha
    drag = aircraft.drag_minimum + aircraft.drag_induced * wing**2
    thrust = pressure_area * drag / np.cos(alpha)
    throttle = thrust / thrust_per_power(aircraft, airspeed, altitude)
    return Trim(alpha, elevator_per_alpha * alpha, throttle)
