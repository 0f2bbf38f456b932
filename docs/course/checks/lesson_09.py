"""The exercises of lesson 9."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from checks import same


def best_policy(answer: Callable[..., Any]) -> None:
    """`p exp(r / beta)`, normalised."""
    equal = [0.5, 0.25, 0.25]
    same(answer(equal, [1.0, 1.0, 1.0], 0.1), equal, "the best policy where all rewards are equal")
    rewards = [0.0, math.log(2), math.log(2)]
    same(
        answer(equal, rewards, 1.0),
        [1 / 3] * 3,
        "best_policy([1/2, 1/4, 1/4], [0, log 2, log 2], 1)",
    )
    same(answer(equal, rewards, 0.5), [0.2, 0.4, 0.4], "the same with beta 0.5")


def look_to_keep(answer: Callable[..., Any]) -> None:
    """The best look, once `patience` looks in a row were below it."""
    cases = [
        ([1.0, 3.0, 2.0, 2.5], 2, 1),
        ([1.0, 3.0, 2.0, 2.5], 3, None),
        ([1.0, 2.0, 3.0], 1, None),
        ([5.0, 4.0], 1, 0),
        ([1.0, 4.0, 2.0, 5.0, 4.0], 2, None),
    ]
    for golds, patience, wanted in cases:
        found = answer(golds, patience)
        asked = f"look_to_keep({golds}, patience={patience})"
        assert found == wanted, f"{asked} should be {wanted}, and is {found!r}"
