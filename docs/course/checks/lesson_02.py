"""The exercises of lesson 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from checks import same


def targets_of(answer: Callable[..., Any]) -> None:
    """The answer's tokens; all else is left out."""
    same(
        answer([7, 8], [4, 5, 6], 7),
        [-100, -100, 4, 5, 6, -100, -100],
        "targets_of([7, 8], [4, 5, 6], 7)",
    )
    same(answer([], [3], 1), [3], "targets_of([], [3], 1)")


def mean_over_answers(answer: Callable[..., Any]) -> None:
    """First over the tokens of each answer, then over the answers."""
    surprises = torch.tensor([[9.0, 1.0, 1.0, 9.0], [3.0, 3.0, 3.0, 3.0]])
    mask = torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    same(answer(surprises, mask), 2.0, "of an answer with 1, 1 and one with 3, 3, 3, 3, the mean")
    same(answer(surprises, torch.ones(2, 4)), 4.0, "of one with 9, 1, 1, 9 and one of 3s, the mean")
