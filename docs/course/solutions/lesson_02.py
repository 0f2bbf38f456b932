"""Solutions of lesson 2's exercises."""

from __future__ import annotations

import torch


def targets_of(instruction: list[int], answer: list[int], length: int) -> list[int]:
    """What is read, and what is padding, is no target."""
    padding = length - len(instruction) - len(answer)
    return [-100] * len(instruction) + answer + [-100] * padding


def mean_over_answers(surprises: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Each answer's mean first, so that its length drops out."""
    return ((surprises * mask).sum(1) / mask.sum(1)).mean()
