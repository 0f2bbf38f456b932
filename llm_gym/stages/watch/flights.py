"""The flights of a run that learns to fly, as the page asks for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym.files.untrusted import printable
from llm_gym.runs.flights import FlightLook, TracedFlight

_DIGITS = 5


def shown_flights(look: FlightLook) -> dict[str, Any]:
    """A look as JSON, with what really came beside what the critic expected.

    Args:
        look: What was read.
    """
    return {
        "step": look.step,
        "algorithm": _line(look.algorithm),
        "gamma": look.gamma,
        "step_seconds": look.step_seconds,
        "flights": [_flight(each, look.gamma) for each in look.flights],
    }


def what_came(flight: TracedFlight, gamma: float) -> NDArray[np.float64]:
    """The discounted rewards that followed each moment.

    A flight that was cut off goes on unseen: behind its last moment stands the critic's value, as
    in learning. Behind an early end there is nothing.

    Args:
        flight: With `n` moments.
        gamma: The discount.

    Returns:
        float64 `(n,)`.
    """
    rewards = flight.columns["reward"].astype(np.float64)
    came = np.empty(len(rewards))
    came[-1] = 0.0 if flight.cause is not None else flight.columns["value"][-1]
    for moment in range(len(rewards) - 2, -1, -1):
        came[moment] = rewards[moment] + gamma * came[moment + 1]
    return came


def _flight(flight: TracedFlight, gamma: float) -> dict[str, Any]:
    columns: dict[str, NDArray[np.floating]] = {
        **flight.columns,
        "came": what_came(flight, gamma),
    }
    return {
        "name": _line(flight.name),
        "seed": flight.seed,
        "target_altitude_m": flight.target_altitude_m,
        "target_airspeed_mps": flight.target_airspeed_mps,
        "cause": None if flight.cause is None else _line(flight.cause.replace("_", " ")),
        "total": float(np.nansum(flight.columns["reward"], dtype=np.float64)),
        "columns": {name: listed(column, _DIGITS) for name, column in columns.items()},
    }


def listed(column: NDArray[np.floating], digits: int) -> list[Any]:
    """Numbers as JSON has them, to so many digits; None where one is none."""
    if column.ndim > 1:
        return [listed(row, digits) for row in column]
    return [float(f"{x:.{digits}g}") if np.isfinite(x) else None for x in column.tolist()]


def _line(text: str) -> str:
    return printable(text, multiline=False)
