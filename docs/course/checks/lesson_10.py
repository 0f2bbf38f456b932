"""The exercises of lesson 10."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from checks import same


def clipped_objective(answer: Callable[..., Any]) -> None:
    """The smaller of two."""
    ratio = torch.tensor([1.0, 1.5, 0.5, 1.5, 0.5])
    advantage = torch.tensor([2.0, 2.0, 2.0, -2.0, -2.0])
    asked = "of ratios 1, 1.5, 0.5, 1.5, 0.5 and advantages 2, 2, 2, -2, -2 with clip 0.2, it"
    same(answer(ratio, advantage, 0.2), [2.0, 2.4, 1.0, -3.0, -1.6], asked)


def generalised_advantages(answer: Callable[..., Any]) -> None:
    """Surprises to come, each step further counting less."""
    rewards, values = [0.0, 0.0, 1.0], [0.5, 0.25, 0.75]
    asked = "of rewards 0, 0, 1 and values 0.5, 0.25, 0.75 with decay"
    same(answer(rewards, values, 0.0), [-0.25, 0.5, 0.25], f"{asked} 0, they")
    same(answer(rewards, values, 1.0), [0.5, 0.75, 0.25], f"{asked} 1, they")
    same(answer(rewards, values, 0.5), [0.0625, 0.625, 0.25], f"{asked} 1/2, they")
