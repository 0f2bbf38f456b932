"""The exercises of lesson 6."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from checks import same


def chance_of_winning(answer: Callable[..., Any]) -> None:
    """The logistic function of the difference."""
    same(answer(3.0, 3.0), 0.5, "the chance of one of two equals")
    same(answer(1.0, 0.0), 0.7310585786, "the chance of strength 1 against 0")
    same(answer(-2.0, 1.0), 0.0474258732, "the chance of strength -2 against 1")


def kappa(answer: Callable[..., Any]) -> None:
    """Agreement beyond chance."""
    first, second = "first", "second"
    one = [first, first, second, second]
    same(answer(one, one), 1.0, "kappa of two who agree on everything")
    same(answer(one, [first, second, first, second]), 0.0, "kappa of two who agree by chance")
    uneven = [first] * 3 + [second]
    same(answer(uneven, [first, first, second, second]), 0.5, "kappa of votes 1112 and 1122")
