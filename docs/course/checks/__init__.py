"""Whether an exercise is solved: `check(function, lesson=1)`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def check(function: Callable[..., Any], *, lesson: int) -> bool:
    """Tries a function of yours, and says whether it is right, or where it is not.

    Args:
        function: Named as the exercise says.
        lesson: Number of the lesson.

    Returns:
        Whether it is right.
    """
    name = function.__name__
    exercise = getattr(import_module(f"checks.lesson_{lesson:02}"), name)
    try:
        exercise(function)
    except NotImplementedError:
        print(f"{name}: not written yet")
    except AssertionError as difference:
        print(f"{name}: not yet. {difference}")
    else:
        print(f"{name}: right")
        return True
    return False


def same(found: Any, wanted: Any, asked: str, *, tolerance: float = 1e-6) -> None:
    """Holds an answer against the right one, number by number.

    Args:
        found: What the reader's function gave.
        wanted: What is right.
        asked: What was asked, for the message.
        tolerance: Largest difference that counts as none.
    """
    import numpy as np

    try:
        ours, theirs = np.asarray(found, dtype=float), np.asarray(wanted, dtype=float)
    except (TypeError, ValueError):
        raise AssertionError(f"{asked} should be {wanted}, and is {found!r}") from None
    fits = ours.shape == theirs.shape and bool((abs(ours - theirs) <= tolerance).all())
    assert fits, f"{asked} should be {_short(theirs)}, and is {_short(ours)}"


def _short(values: Any) -> str:
    return str(values.round(4).tolist())
