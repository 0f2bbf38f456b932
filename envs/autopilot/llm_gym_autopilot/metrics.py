"""How well a flight was flown, from what the instruments showed.

The measures are those of control engineering that Bøhn, Coates, Moe and Johansen take for learnt
controllers (*Deep Reinforcement Learning Attitude Control of Fixed-Wing UAVs Using Proximal Policy
Optimization*, ICUAS 2019, arXiv 1911.05478): success, rise and settling time, overshoot and control
variation. Ours differ where it says so below.

Arrays are `(T + 1, N)`: T steps of N flights, the first row taken at the reset. Rows behind an
early end are NaN. A measure that a flight does not have, such as the settling time of one that
never settled, is NaN.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot import task
from llm_gym_autopilot.task import STEP_SECONDS

__all__ = [
    "control_movement",
    "ended_early",
    "flight_success",
    "overshoot",
    "rise_time",
    "root_mean_square",
    "settling_time",
]

Array = NDArray[np.float64]

RMS_SECONDS = 30.0


def ended_early(values: Array) -> NDArray[np.bool_]:
    """Which flights did not last to the end.

    Args:
        values: `(T + 1, N)`.

    Returns:
        `(N,)`.
    """
    return np.isnan(values[-1])


def rise_time(error: Array, share: float = 0.1) -> Array:
    """Seconds until the error is a tenth of what it was.

    Bøhn et al. count from 90 % of the first error to 10 %; we count from the start, as targets do
    not move here.

    Args:
        error: `(T + 1, N)`.
        share: Share of the first error.

    Returns:
        `(N,)`; NaN if it never became so small.
    """
    with np.errstate(invalid="ignore"):
        small = np.abs(error) <= share * np.abs(error[0])
    return np.where(small.any(axis=0), small.argmax(axis=0) * STEP_SECONDS, np.nan)


def settling_time(error: Array, band: float | Array) -> Array:
    """Seconds after which the error stays within a band to the end of the flight.

    Args:
        error: `(T + 1, N)`.
        band: Half of its width, in the error's unit; one number or `(N,)`.

    Returns:
        `(N,)`; NaN if it is outside at the end, or the flight ended early.
    """
    with np.errstate(invalid="ignore"):
        outside = ~(np.abs(error) < band)  # (T + 1, N)
    steps = len(error) - outside[::-1].argmax(axis=0)
    steps = np.where(outside.any(axis=0), steps, 0)
    return np.where(outside[-1], np.nan, steps * STEP_SECONDS)


def overshoot(error: Array) -> Array:
    """How far the flight went beyond its target.

    In the error's unit: Bøhn et al. divide by the first error, which can be next to nothing here.

    Args:
        error: Target minus actual, `(T + 1, N)`.

    Returns:
        `(N,)`, 0 if the target was not passed.
    """
    return np.maximum(_nan_reduce(np.nanmax, -error * np.sign(error[0])), 0.0)


def root_mean_square(error: Array, seconds: float = RMS_SECONDS) -> Array:
    """Root mean square of the error over the last seconds.

    Args:
        error: `(T + 1, N)`.
        seconds: Length of the last part of a flight that counts.

    Returns:
        `(N,)`; NaN if the flight ended early.
    """
    last = error[-min(round(seconds / STEP_SECONDS), len(error) - 1) :]
    return np.sqrt(np.mean(last**2, axis=0))


def control_movement(command: Array) -> Array:
    """Mean change of a command from step to step.

    Bøhn et al. take the change per second and over all actuators; ours is per step, each on its
    own.

    Args:
        command: `(T + 1, N)`.

    Returns:
        `(N,)`, in the command's unit a step.
    """
    return _nan_reduce(np.nanmean, np.abs(np.diff(command, axis=0)))


def flight_success(
    altitude_error: Array, airspeed_error: Array, gusty: bool | NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether the targets were held during the last 15 s, as the task defines it.

    Args:
        altitude_error: m, `(T + 1, N)`.
        airspeed_error: m/s, `(T + 1, N)`.
        gusty: Whether the flight was in turbulence, which widens the bands; one or `(N,)`.

    Returns:
        `(N,)`.
    """
    altitude_band = np.where(gusty, task.ALTITUDE_BAND_GUSTS, task.ALTITUDE_BAND)
    airspeed_band = np.where(gusty, task.AIRSPEED_BAND_GUSTS, task.AIRSPEED_BAND)
    last = slice(-task.HOLD_STEPS, None)
    with np.errstate(invalid="ignore"):
        on_altitude = np.sum(np.abs(altitude_error[last]) < altitude_band, axis=0)
        on_airspeed = np.sum(np.abs(airspeed_error[last]) < airspeed_band, axis=0)
    return (
        (on_altitude >= task.HELD_ALTITUDE_STEPS)
        & (on_airspeed >= task.HELD_AIRSPEED_STEPS)
        & ~ended_early(altitude_error)
    )


def _nan_reduce(reduce: Any, values: Array) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a flight without a single step is NaN
        return np.asarray(reduce(values, axis=0), dtype=np.float64)
