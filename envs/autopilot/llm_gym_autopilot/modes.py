"""The natural motions of an aeroplane: short period and phugoid, from its linearised equations.

Pulled out of level flight, an aeroplane answers with two oscillations (Nelson, *Flight Stability
and Automatic Control*, chapter 4): the short period, a quick and well damped one of pitch and angle
of attack, and the phugoid, a slow and hardly damped exchange of height and speed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.aircraft import Aircraft
from llm_gym_autopilot.dynamics import derivatives, thrust_per_power
from llm_gym_autopilot.trim import trim

__all__ = ["NELSON", "Mode", "Modes", "find_modes", "linearise", "modes_of_matrix"]


class Mode(NamedTuple):
    """One oscillation.

    Attributes:
        real: Real part of its eigenvalue, 1/s; negative if it dies out.
        imaginary: Angular frequency, rad/s.
    """

    real: float
    imaginary: float

    @property
    def frequency(self) -> float:
        """Undamped natural frequency, rad/s."""
        return math.hypot(self.real, self.imaginary)

    @property
    def damping(self) -> float:
        """Damping ratio."""
        return -self.real / self.frequency

    @property
    def period(self) -> float:
        """Seconds a cycle takes; infinite if it does not oscillate."""
        return math.inf if self.imaginary == 0 else 2 * math.pi / self.imaginary


class Modes(NamedTuple):
    """The two oscillations of longitudinal flight."""

    short_period: Mode
    phugoid: Mode


# Nelson's example, table 4.3 and around: the Navion at 176 ft/s and sea level.
NELSON = Modes(short_period=Mode(-2.5, 2.59), phugoid=Mode(-0.0171, 0.213))

_STEP = 1e-6  # of the central differences, relative to a quantity's size


def linearise(
    aircraft: Aircraft, airspeed: float, altitude: float = 0.0, *, constant_thrust: bool = False
) -> NDArray[np.float64]:
    """Matrix of the motion around trimmed level flight.

    Args:
        aircraft: The aeroplane.
        airspeed: m/s.
        altitude: m.
        constant_thrust: As textbooks assume; else the thrust falls with speed, as it does in
            flight.

    Returns:
        `(4, 4)`: d/dt of (u, w, q, theta) by (u, w, q, theta).
    """
    controls = trim(aircraft, airspeed, altitude)
    centre = np.array(
        [
            airspeed * math.cos(controls.alpha), airspeed * math.sin(controls.alpha), 0.0,
            controls.alpha, altitude, controls.throttle,
        ]
    )  # fmt: skip
    steps = _STEP * np.array([airspeed, airspeed, 1.0, 1.0])
    moved = np.repeat(centre[:, None], 8, axis=1)  # four quantities up, four down
    for index, step in enumerate(steps):
        moved[index, index] += step
        moved[index, index + 4] -= step
    if constant_thrust:
        speeds = np.hypot(moved[0], moved[1])
        moved[5] *= thrust_per_power(aircraft, airspeed, altitude) / thrust_per_power(
            aircraft, speeds, altitude
        )
    rates = derivatives(aircraft, moved, controls.elevator, controls.throttle)[:4]
    return (rates[:, :4] - rates[:, 4:]) / (2 * steps)


def modes_of_matrix(matrix: NDArray[np.float64]) -> Modes:
    """Reads the two oscillations off a `(4, 4)` matrix.

    Args:
        matrix: Matrix of a linear motion.

    Returns:
        The modes, the faster one as the short period.

    Raises:
        ValueError: The motion is not two oscillations.
    """
    upper = sorted(
        (value for value in np.linalg.eigvals(matrix) if value.imag > 0), key=lambda v: abs(v)
    )
    if len(upper) != 2:
        raise ValueError(
            f"matrix has eigenvalues {np.linalg.eigvals(matrix)}: not two oscillations; is the "
            "aeroplane stalled there?"
        )
    phugoid, short_period = (Mode(float(value.real), float(value.imag)) for value in upper)
    return Modes(short_period, phugoid)


def find_modes(
    aircraft: Aircraft, airspeed: float, altitude: float = 0.0, *, constant_thrust: bool = False
) -> Modes:
    """Short period and phugoid of an aeroplane in level flight.

    Args:
        aircraft: The aeroplane.
        airspeed: m/s.
        altitude: m.
        constant_thrust: As in `linearise`.

    Returns:
        The modes.

    Raises:
        ValueError: There are no two oscillations at this speed.
    """
    return modes_of_matrix(linearise(aircraft, airspeed, altitude, constant_thrust=constant_thrust))
