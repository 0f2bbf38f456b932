"""The exercises of lesson 7."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from checks import same


def bradley_terry_loss(answer: Callable[..., Any]) -> None:
    """Minus the mean log-probability of the votes."""
    equal = torch.zeros(3)
    same(answer(equal, equal), math.log(2), "the loss where rewards are equal")
    chosen, rejected = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    wanted = (math.log(1 + math.exp(-1)) + math.log(1 + math.e)) / 2
    same(answer(chosen, rejected), wanted, "the loss of differences 1 and -1")
    far = torch.tensor([-200.0])
    same(answer(far, -far), 400.0, "the loss of a difference of -400", tolerance=1e-3)


def standardised(answer: Callable[..., Any]) -> None:
    """Less the yardstick's mean, over its standard deviation."""
    same(answer([1.0, 3.0], [1.0, 3.0]), [-1.0, 1.0], "standardised([1, 3], [1, 3])")
    same(answer([6.0], [0.0, 2.0, 4.0]), [4 / math.sqrt(8 / 3)], "standardised([6], [0, 2, 4])")
