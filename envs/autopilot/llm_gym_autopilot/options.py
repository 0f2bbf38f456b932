"""What `reset(options=...)` takes: checked once, for one aeroplane and for many."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.aircraft import AircraftLimits
from llm_gym_autopilot.task import MAX_ALTITUDE_ERROR, MAX_PITCH
from llm_gym_autopilot.turbulence import LEVELS

__all__ = ["check_turbulence", "read_options"]

# Quantity: unit, smallest and largest value.
_RANGES = {
    "altitude": ("m", 30.0, 3500.0),
    "target_altitude": ("m", 30.0, 3500.0),
    "airspeed": ("m/s", 32.0, 80.0),
    "target_airspeed": ("m/s", 32.0, 80.0),
    "pitch": ("rad", -0.95 * MAX_PITCH, 0.95 * MAX_PITCH),
    "q": ("rad/s", -1.0, 1.0),
}
_KEYS = (*_RANGES, "alpha", "turbulence", "trimmed", "state")


def check_turbulence(turbulence: Any, allowed: tuple[str, ...]) -> str:
    """A turbulence level by name.

    Args:
        turbulence: What the user gave.
        allowed: Names of the levels that are taken here.

    Returns:
        The name.

    Raises:
        ValueError: It is none of them.
    """
    if not isinstance(turbulence, str) or turbulence not in allowed:
        raise ValueError(f"turbulence={turbulence!r} must be one of {', '.join(allowed)}")
    return turbulence


def read_options(
    options: Mapping[str, Any] | None, limits: AircraftLimits, num_rows: int | None = None
) -> dict[str, Any]:
    """Checks options and brings their values to one shape.

    Args:
        options: `altitude`, `target_altitude` [m], `airspeed`, `target_airspeed` [m/s], `pitch`,
            `alpha` [rad], `q` [rad/s], `turbulence` (a level), `trimmed` (bool), `state`.
        limits: Limits of the aeroplane.
        num_rows: Number of aeroplanes; then values may also be one a row. None for a single one.

    Returns:
        The options given: numbers as float64 arrays `(num_rows,)` or `()`, levels as indices into
        `LEVELS` of the same shape.

    Raises:
        ValueError: An unknown key, a value out of range, a wrong length, or options that exclude
            each other.
        TypeError: A value of the wrong type.
    """
    options = dict(options or {})
    for key in options:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"options has {key!r}, which is none of {', '.join(_KEYS)}{hint}")
    if "state" in options and len(options) > 1:
        needless = ", ".join(sorted(set(options) - {"state"}))
        raise ValueError(f"options['state'] says everything; leave out {needless}")
    if "state" in options:
        return options
    ranges = dict(_RANGES)
    ranges["alpha"] = ("rad", -0.2, limits.stall_alpha)
    checked: dict[str, Any] = {
        key: _numbers(key, value, ranges[key], num_rows)
        for key, value in options.items()
        if key in ranges
    }
    if "turbulence" in options:
        checked["turbulence"] = _levels(options["turbulence"], num_rows)
    if "trimmed" in options:
        checked["trimmed"] = _flag(options["trimmed"])
        clash = sorted({"pitch", "alpha", "q"} & checked.keys())
        if checked["trimmed"] and clash:
            raise ValueError(
                f"options['trimmed']=True fixes the attitude; leave out {', '.join(clash)}"
            )
    _check_targets(checked)
    return checked


def _numbers(
    key: str, value: Any, allowed: tuple[str, float, float], num_rows: int | None
) -> NDArray[np.float64]:
    unit, low, high = allowed
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"options[{key!r}]={value!r} must be a number in {unit}") from None
    if isinstance(value, (bool, str)):
        raise TypeError(f"options[{key!r}]={value!r} must be a number in {unit}")
    shape = () if num_rows is None else (num_rows,)
    if numbers.shape not in ((), shape):
        raise ValueError(
            f"options[{key!r}] has shape {numbers.shape}; give one number"
            + ("" if num_rows is None else f" or {num_rows}, one an aeroplane")
        )
    wrong = ~((numbers >= low) & (numbers <= high))
    if wrong.any():
        first = float(numbers[wrong].flat[0]) if numbers.shape else float(numbers)
        raise ValueError(
            f"options[{key!r}]={first:g} is outside the flight envelope: {low:g} to {high:g} {unit}"
        )
    return np.broadcast_to(numbers, shape).copy()


def _levels(value: Any, num_rows: int | None) -> NDArray[np.intp]:
    names = tuple(LEVELS)
    if num_rows is None or isinstance(value, str):
        index = names.index(check_turbulence(value, names))
        return np.full(() if num_rows is None else (num_rows,), index, dtype=np.intp)
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != num_rows:
        raise ValueError(
            f"options['turbulence'] must be a level or {num_rows} of them, got {value!r}"
        )
    return np.array(
        [names.index(check_turbulence(str(name), names)) for name in value], dtype=np.intp
    )


def _flag(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"options['trimmed']={value!r} must be True or False")
    return bool(value)


def _check_targets(options: Mapping[str, Any]) -> None:
    if "altitude" not in options or "target_altitude" not in options:
        return
    apart = float(np.max(np.abs(options["target_altitude"] - options["altitude"])))
    if not math.isfinite(apart) or apart > MAX_ALTITUDE_ERROR:
        raise ValueError(
            f"options: altitude and target_altitude are {apart:g} m apart, but an episode ends at "
            f"{MAX_ALTITUDE_ERROR:g} m"
        )
