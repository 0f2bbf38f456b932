"""JSON that is read back: held against what it must be before anything is done with it.

A check takes a name and a value, and raises `ValueError` with one sentence where the value is not
what it must be. Checks are made of checks:

    check = record({"steps": whole(), "rates": list_of(number(low=0))})
    check("", {"steps": 3, "rates": [0.1, "x"]})  # rates[1] must be a number >= 0, got 'x'
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from llm_gym.files.ranges import shown

Check: TypeAlias = Callable[[str, Any], None]
"""Takes the name of a value, for messages, and the value; raises `ValueError`."""

_LARGEST = 2**63 - 1  # of a whole number: what an array, or a column of a database, can hold


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: It is missing or damaged, or has numbers that JSON does not (NaN, Infinity).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return parse_json(text, str(path))


def parse_json(text: str, where: str) -> Any:
    """Reads a JSON text.

    Args:
        text: The text.
        where: Its name in messages.

    Raises:
        ValueError: It is damaged, nested too deeply, or has numbers that JSON does not.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"{where} is corrupt: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{where} is corrupt: {error}") from error


def check_file(path: str | Path, check: Check, content: Any) -> None:
    """Holds the content of a file against a check.

    Raises:
        ValueError: It does not fit; the message begins with the path.
    """
    try:
        check("", content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _no_number(literal: str) -> float:
    raise ValueError(f"{literal} is no number that JSON has")


# ------------------------------------------------------------------ single values


def whole(low: int = 0, high: int = _LARGEST) -> Check:
    """A whole number from `low` to `high`."""
    limits = f">= {low}" if high == _LARGEST else f"from {low} to {high}"

    def check(name: str, value: Any) -> None:
        is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not (is_whole and low <= value <= high):
            refuse(name, f"a whole number {limits}", value)

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A finite number from `low` to `high`."""
    limits = ("" if low == -math.inf else f" >= {low:g}") + (
        "" if high == math.inf else f" <= {high:g}"
    )

    def check(name: str, value: Any) -> None:
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (is_number and low <= value <= high and _is_finite(value)):
            refuse(name, f"a finite number{limits}", value)

    return check


def boolean(name: str, value: Any) -> None:
    """True or false."""
    if not isinstance(value, (bool, np.bool_)):
        refuse(name, "true or false", value)


def text(name: str, value: Any) -> None:
    """A text."""
    if not isinstance(value, str):
        refuse(name, "a text", value)


def anything(name: str, value: Any) -> None:
    """Whatever it is."""


def one_of(*allowed: Any) -> Check:
    """One of a few values, of the same type."""
    listed = " or ".join(map(repr, allowed))

    def check(name: str, value: Any) -> None:
        if not any(type(value) is type(each) and value == each for each in allowed):
            refuse(name, listed, value)

    return check


def optional(check: Check) -> Check:
    """None, or what another check says."""

    def check_unless_none(name: str, value: Any) -> None:
        if value is not None:
            check(name, value)

    return check_unless_none


# ------------------------------------------------------------------ containers


def list_of(check: Check, length: int | None = None, *, longest: int | None = None) -> Check:
    """A list of values that each fit a check.

    Args:
        check: Of each.
        length: How many there must be; None leaves it open.
        longest: How many there may be.
    """

    def check_list(name: str, value: Any) -> None:
        if not _is_list(value):
            refuse(name, "a list" if length is None else f"a list of {length}", value)
        if length is not None and len(value) != length:
            refuse(name, f"a list of {length}", value)
        if longest is not None and len(value) > longest:
            refuse(name, f"a list of at most {longest}", value)
        for place, item in enumerate(value):
            check(f"{name}[{place}]", item)

    return check_list


def row_of(*checks: Check) -> Check:
    """A list with a check for each place."""

    def check_row(name: str, value: Any) -> None:
        if not (_is_list(value) and len(value) == len(checks)):
            refuse(name, f"a list of {len(checks)}", value)
        for place, (check, item) in enumerate(zip(checks, value, strict=True)):
            check(f"{name}[{place}]", item)

    return check_row


def record(
    checks: Mapping[str, Check], *, others: Check | None = None, may_lack: Collection[str] = ()
) -> Check:
    """An object with certain keys.

    Args:
        checks: What each must be.
        others: What further keys must be; None allows none.
        may_lack: Keys that need not be there.
    """

    def check_record(name: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            refuse(name, "an object", value)
        for key in value:
            if not isinstance(key, str) or (others is None and key not in checks):
                raise ValueError(f"{_below(name, key)} is no key that belongs there")
        for key, check in checks.items():
            if key in value:
                check(_below(name, key), value[key])
            elif key not in may_lack:
                raise ValueError(f"{_below(name, key)} is missing")
        if others is not None:
            for key in value.keys() - checks.keys():
                others(_below(name, key), value[key])

    return check_record


def refuse(name: str, must_be: str, value: Any) -> None:
    """Raises the `ValueError` of a value that is not what it must be."""
    raise ValueError(f"{name or 'the content'} must be {must_be}, got {_described(value)}")


def _described(value: Any) -> str:
    """A value in a message; of one with parts only their number, since it may be of any depth."""
    if isinstance(value, Mapping):
        return f"an object of {len(value)} entries"
    if _is_list(value):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > _LARGEST:
        return f"a number of {value.bit_length()} bits"
    return shown(value)


def _is_list(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _below(name: str, key: Any) -> str:
    key = key if isinstance(key, str) and len(key) <= 80 and key.isprintable() else shown(key)
    return f"{name}.{key}" if name else str(key)
