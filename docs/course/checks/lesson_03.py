"""The exercises of lesson 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from checks import same


def return_to_go(answer: Callable[..., Any]) -> None:
    """Sums from each step to the last."""
    same(answer([1.0, 0.0, 2.0]), [3.0, 2.0, 2.0], "return_to_go([1, 0, 2])")
    same(answer([0.5]), [0.5], "return_to_go([0.5])")


def advantages(answer: Callable[..., Any]) -> None:
    """Against the mean of the others."""
    same(answer([3.0, 1.0]), [2.0, -2.0], "advantages([3, 1])")
    same(answer([6.0, 0.0, 3.0]), [4.5, -4.5, 0.0], "advantages([6, 0, 3])")
    same(answer([2.0, 2.0, 2.0, 2.0]), [0.0] * 4, "advantages of four equal flights")
