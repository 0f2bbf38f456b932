"""The exercises of lesson 8."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from checks import same


def penalised(answer: Callable[..., Any]) -> None:
    """Whoever left pays."""
    same(answer(1.0, -2.0, -5.0, 0.1), 0.7, "penalised(1, -2, -5, 0.1)")
    same(answer(1.0, -5.0, -2.0, 0.1), 1.3, "penalised(1, -5, -2, 0.1)")
    same(answer(0.5, -3.0, -3.0, 9.0), 0.5, "penalised(0.5, -3, -3, 9)")


def k3(answer: Callable[..., Any]) -> None:
    """`exp(-x) - 1 + x`."""
    log_prob = torch.log(torch.tensor([0.5, 0.5, 0.5]))
    reference = torch.log(torch.tensor([0.5, 0.25, 1.0]))
    wanted = [0.0, 0.5 - 1 + math.log(2), 2 - 1 - math.log(2)]
    same(answer(log_prob, reference), wanted, "k3 of 1/2 against 1/2, 1/4 and 1", tolerance=1e-5)
