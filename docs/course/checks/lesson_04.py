"""The exercises of lesson 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from checks import same


def credit(answer: Callable[..., Any]) -> None:
    """The reward, discounted by how far ahead it lies."""
    same(answer(3, 2.0, 1.0), [2.0, 2.0, 2.0], "credit(3, 2.0, 1.0)")
    same(answer(3, 1.0, 0.5), [0.25, 0.5, 1.0], "credit(3, 1.0, 0.5)")
    same(answer(1, -4.0, 0.9), [-4.0], "credit(1, -4.0, 0.9)")


def text_log_probability(answer: Callable[..., Any]) -> None:
    """Log-probabilities add up, where there is a token."""
    log_probs = torch.tensor([[-1.0, -2.0, -3.0], [-0.5, -7.0, -9.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    same(answer(log_probs, mask), [-6.0, -0.5], "of texts with -1, -2, -3 and with -0.5 alone, it")
