"""Turning whatever a scorer returned into a float64 vector, or saying what is wrong with it."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

_LARGEST = float(np.finfo(np.float32).max)  # rewards are float32


class RealVector(NamedTuple):
    """Outcome of `as_real_vector`.

    Attributes:
        values: float64 `(B,)`, NaN for None where that is allowed; meaningless where there is a
            problem.
        problem: What is wrong, continuing the sentence "the scorer returned ..."; None if nothing.
        row: The row the problem is in; None where it concerns all of them.
    """

    values: np.ndarray
    problem: str | None
    row: int | None = None


def as_real_vector(raw: Any, size: int, *, allow_none: bool = False) -> RealVector:
    """Checks that `raw` is `size` finite real numbers which float32 can hold, as rewards must.

    Lists, tuples, NumPy arrays, torch tensors (any device, any dtype) and other sized iterables
    pass; booleans count as 0 and 1. Text, mappings, sets, None, complex numbers, NaN, infinities, a
    bare number and a wrong length or shape do not.

    Args:
        raw: What the scorer returned.
        size: How many numbers it should have returned.
        allow_none: Let single elements be None: no score for that row.

    Returns:
        The float64 vector, or the problem.
    """
    nothing = np.zeros(0)
    if hasattr(raw, "detach"):  # a torch tensor, without importing torch; tolist knows bfloat16
        raw = raw.detach().tolist()
    if isinstance(raw, (str, bytes, Mapping, Set)):
        return RealVector(nothing, f"a {type(raw).__name__} instead of one number per completion")
    if _is_scalar(raw):
        return RealVector(nothing, f"the bare value {raw!r} instead of one number per completion")
    try:
        len(raw)  # a generator is refused: nothing says that it ends
        elements = raw if isinstance(raw, np.ndarray) else list(raw)
    except TypeError:
        return RealVector(
            nothing,
            f"an object of type {type(raw).__name__} instead of a list of one number per "
            "completion",
        )
    if len(elements) != size:
        return RealVector(nothing, f"{len(elements)} scores for {size} completions")

    none = np.zeros(size, dtype=bool)
    numeric = _as_numeric_array(elements)
    if numeric is None:
        values = np.empty(size)
        for row, value in enumerate(elements):
            none[row] = allow_none and value is None
            number = np.nan if none[row] else _as_float(value)
            if number is None:
                return RealVector(nothing, f"{_describe(value)} instead of a real number", row)
            values[row] = number
    else:
        values = numeric
    bad = ~np.isfinite(values) & ~none
    if bad.any():
        row = int(bad.argmax())
        return RealVector(nothing, f"the score {values[row]}, which is not finite", row)
    if (np.abs(values) > _LARGEST).any():
        row = int((np.abs(values) > _LARGEST).argmax())
        problem = f"the score {values[row]:g}, which is beyond float32 ({_LARGEST:.1e} at most)"
        return RealVector(nothing, problem, row)
    return RealVector(values, None)


def sums_of_tokens(
    raw: Any, token_ids: Sequence[Sequence[int]] | None
) -> tuple[Any, str | None, int | None]:
    """Replaces lists of one number a token by their sums.

    Args:
        raw: What the scorer returned.
        token_ids: Token ids of B completions; None where they are not known.

    Returns:
        What `as_real_vector` has to check, what is wrong with the numbers of a completion's tokens
        (None if nothing), and the row it is wrong in.
    """
    if token_ids is None or not isinstance(raw, (list, tuple)) or len(raw) != len(token_ids):
        return raw, None, None
    sums = list(raw)
    for row, (numbers_of_tokens, ids) in enumerate(zip(raw, token_ids, strict=True)):
        if isinstance(numbers_of_tokens, str) or not hasattr(numbers_of_tokens, "__len__"):
            continue
        if getattr(numbers_of_tokens, "ndim", 1) != 1:  # a number after all, or a matrix
            continue
        values, problem, _ = as_real_vector(numbers_of_tokens, len(ids))
        if problem is not None:
            problem = problem.replace("completion", "token")
            return raw, f"for the tokens of a completion {problem}", row
        sums[row] = float(values.sum())
    return sums, None, None


def _is_scalar(value: Any) -> bool:
    zero_dimensional = getattr(value, "ndim", None) == 0
    return value is None or isinstance(value, numbers.Number) or zero_dimensional


def _as_numeric_array(elements: np.ndarray | list[Any]) -> np.ndarray | None:
    """The quick way for plain numbers; None sends the caller to look at each element."""
    if isinstance(elements, list) and not all(type(value) in (float, int) for value in elements):
        return None
    array = np.asarray(elements)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        return None
    return array.astype(np.float64)


def _as_float(value: Any) -> float | None:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # NumPy and torch scalars
        value = value.item()
    if not isinstance(value, numbers.Real):  # bool and Fraction are Real; str, None, complex not
        return None
    try:
        return float(value)
    except OverflowError:  # an int beyond float64; the finiteness check names it
        return float("inf")


def _describe(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None and len(shape):
        return f"an array of shape {tuple(shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def finite_number(parameter: str, value: Any) -> float:
    """Checks a number that a user passed.

    Args:
        parameter: What it is called, for the message.
        value: The number.

    Returns:
        The number as a float.

    Raises:
        TypeError: Not a real number.
        ValueError: NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"{parameter} must be a number, got {value!r} of type {type(value).__name__}"
        )
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{parameter} is beyond what a float holds") from None
    if not np.isfinite(number):
        raise ValueError(f"{parameter} must be finite, got {value!r}")
    return number
