"""Linear-quadratic regulator with integral action, computed from the table of coefficients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.aircraft import NAVION, Aircraft
from llm_gym_autopilot.dynamics import derivatives
from llm_gym_autopilot.pilots.linear import discretise, solve_riccati
from llm_gym_autopilot.pilots.protocol import (
    ELEVATOR_LIMIT,
    Array,
    ArrayPilot,
    Sight,
    check_numbers,
)
from llm_gym_autopilot.task import CENTRE_AIRSPEED, STEP_SECONDS
from llm_gym_autopilot.trim import trim

__all__ = ["LQRPilot", "augmented_system", "linear_motion"]

_STATES = 6


def linear_motion(aircraft: Aircraft, airspeed: float, altitude: float) -> tuple[Array, Array]:
    """Small motions around level flight, by central differences of the equations of motion.

    Args:
        aircraft: The aeroplane.
        airspeed: m/s.
        altitude: m.

    Returns:
        A `(6, 6)` of the state u, w, q, theta, h, power, and B `(6, 2)` of elevator and throttle.
    """
    level = trim(aircraft, airspeed, altitude)
    point = np.array(
        [
            airspeed * np.cos(level.alpha),
            airspeed * np.sin(level.alpha),
            0.0,
            level.alpha,
            altitude,
            level.throttle,
            level.elevator,
            level.throttle,
        ],
        dtype=np.float64,
    )
    steps = np.diag([1e-3, 1e-3, 1e-5, 1e-5, 1.0, 1e-4, 1e-5, 1e-4])
    high, low = point[:, None] + steps, point[:, None] - steps
    rise = derivatives(aircraft, high[:_STATES], high[6], high[7])
    fall = derivatives(aircraft, low[:_STATES], low[6], low[7])
    jacobian = (rise - fall) / (2 * np.diag(steps))
    return jacobian[:, :_STATES], jacobian[:, _STATES:]


def augmented_system(aircraft: Aircraft, airspeed: float, altitude: float) -> tuple[Array, Array]:
    """The motion of one step with two more states: integrals of altitude and of airspeed.

    Args:
        aircraft: The aeroplane.
        airspeed: m/s.
        altitude: m.

    Returns:
        A `(8, 8)` and B `(8, 2)` of a step of 0.2 s.
    """
    a, b = discretise(*linear_motion(aircraft, airspeed, altitude), STEP_SECONDS)
    alpha = trim(aircraft, airspeed, altitude).alpha
    full = np.zeros((_STATES + 2, _STATES + 2))
    full[:_STATES, :_STATES] = a
    full[6, 6] = full[7, 7] = 1.0
    full[6, 4] = STEP_SECONDS
    full[7, 0], full[7, 1] = STEP_SECONDS * np.cos(alpha), STEP_SECONDS * np.sin(alpha)
    return full, np.vstack([b, np.zeros((2, 2))])


@dataclass(frozen=True, eq=False)
class LQRPilot(ArrayPilot):
    """Elevator and throttle from all six states and two integrals, through one matrix.

    The states are deviations from level flight at the target airspeed. Make one by `design`, whose
    costs are what `python -m llm_gym_autopilot tune lqr` finds (seed 0, 46,080 episodes in up to
    moderate turbulence, on the return).

    Attributes:
        gain: `(2, 8)`: elevator [rad] and throttle against u, w, q, theta, h, power and the
            integrals of altitude [m s] and airspeed [m].
        aircraft: Whose level flight is aimed at.
        altitude: At which, m; observations do not tell the altitude.
        altitude_limit: A larger altitude error is flown as this one, m.
        altitude_band: The altitude's integral stands still beyond this error, m.
        airspeed_band: The airspeed's integral stands still beyond this error, m/s.
    """

    gain: NDArray[np.float64] = field(repr=False)
    aircraft: Aircraft = NAVION
    altitude: float = 1400.0
    altitude_limit: Any = 30.6
    altitude_band: Any = 9.81
    airspeed_band: Any = 1.5

    def __post_init__(self) -> None:
        limits = ("altitude_limit", "altitude_band", "airspeed_band")
        check_numbers(self, limits, positive=True)

    @classmethod
    def design(
        cls,
        aircraft: Aircraft = NAVION,
        airspeed: float = CENTRE_AIRSPEED,
        altitude: float = 1400.0,
        *,
        altitude_cost: float = 6.53,
        altitude_integral_cost: float = 8.13,
        airspeed_cost: float = 4.06,
        airspeed_integral_cost: float = 19.7,
        pitch_rate_cost: float = 0.29,
        pitch_cost: float = 0.293,
        elevator_cost: float = 0.102,
        throttle_cost: float = 0.617,
        **limits: float,
    ) -> LQRPilot:
        """Computes the gain for a flight condition.

        Each cost is the deviation that costs as much as one unit of any other (Bryson and Ho,
        *Applied Optimal Control*, 1975, section 5.2: its weight is the inverse square).

        Args:
            aircraft: The aeroplane.
            airspeed: m/s.
            altitude: m.
            altitude_cost: m.
            altitude_integral_cost: m s.
            airspeed_cost: m/s.
            airspeed_integral_cost: m.
            pitch_rate_cost: rad/s.
            pitch_cost: rad.
            elevator_cost: rad.
            throttle_cost: Share of full throttle.
            limits: Other attributes of the pilot.

        Returns:
            The pilot.

        Raises:
            ValueError: A cost is not positive.
        """
        costs = {
            "altitude_cost": altitude_cost,
            "altitude_integral_cost": altitude_integral_cost,
            "airspeed_cost": airspeed_cost,
            "airspeed_integral_cost": airspeed_integral_cost,
            "pitch_rate_cost": pitch_rate_cost,
            "pitch_cost": pitch_cost,
            "elevator_cost": elevator_cost,
            "throttle_cost": throttle_cost,
        }
        for name, value in costs.items():
            if not value > 0:
                raise ValueError(f"{name}={value!r} must be positive: a deviation that costs 1")
        a, b = augmented_system(aircraft, airspeed, altitude)
        # The airspeed is u to first order: the angle of attack stays below 0.1 rad.
        worth = [airspeed_cost, np.inf, pitch_rate_cost, pitch_cost, altitude_cost, np.inf]
        worth += [altitude_integral_cost, airspeed_integral_cost]
        q = np.diag(np.asarray(worth, dtype=np.float64) ** -2)
        r = np.diag(np.array([elevator_cost, throttle_cost]) ** -2.0)
        _, gain = solve_riccati(a, b, q, r)
        return cls(gain, aircraft, altitude, **limits)

    def _begin(self, seen: Sight) -> NDArray[Any]:
        """Integrals of the deviations of altitude [m s] and airspeed [m]."""
        return np.zeros((seen.climb.size, 2))

    def _fly(self, seen: Sight, memory: NDArray[Any]) -> tuple[Array, Array, NDArray[Any]]:
        level = trim(self.aircraft, seen.target_airspeed, self.altitude)
        deviation = np.stack(
            [
                seen.airspeed * np.cos(seen.alpha) - seen.target_airspeed * np.cos(level.alpha),
                seen.airspeed * np.sin(seen.alpha) - seen.target_airspeed * np.sin(level.alpha),
                seen.pitch_rate,
                seen.pitch - level.alpha,
                np.clip(-seen.altitude_error, -self.altitude_limit, self.altitude_limit),
                seen.power - level.throttle,
                memory[:, 0],
                memory[:, 1],
            ],
            axis=1,
        )
        control = np.einsum("...ij,...j->...i", self.gain, deviation)
        elevator = np.clip(level.elevator - control[:, 0], -ELEVATOR_LIMIT, ELEVATOR_LIMIT)
        throttle = np.clip(level.throttle - control[:, 1], 0.0, 1.0)
        near = np.abs(seen.altitude_error) < self.altitude_band
        altitude = memory[:, 0] - STEP_SECONDS * np.where(near, seen.altitude_error, 0.0)
        near = np.abs(seen.airspeed_error) < self.airspeed_band
        airspeed = memory[:, 1] - STEP_SECONDS * np.where(near, seen.airspeed_error, 0.0)
        return elevator, throttle, np.stack([altitude, airspeed], axis=1)
