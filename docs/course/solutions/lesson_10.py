"""Solutions of lesson 10's exercises."""

from __future__ import annotations

import torch


def clipped_objective(ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """The smaller one: no credit beyond the clip, and no excuse either."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def generalised_advantages(rewards: list[float], values: list[float], decay: float) -> list[float]:
    """From the last token to the first."""
    after, advantage, found = 0.0, 0.0, []
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        advantage = reward + after - value + decay * advantage
        found.insert(0, advantage)
        after = value
    return found
