"""Solutions of lesson 9's exercises."""

from __future__ import annotations

import math


def best_policy(probabilities: list[float], rewards: list[float], beta: float) -> list[float]:
    """Better answers weigh more, the smaller beta the more so."""
    pairs = zip(probabilities, rewards, strict=True)
    weights = [probability * math.exp(reward / beta) for probability, reward in pairs]
    return [weight / sum(weights) for weight in weights]


def look_to_keep(golds: list[float], patience: int) -> int | None:
    """The best look so far; a better one starts the count anew."""
    best = golds.index(max(golds))
    return best if len(golds) - 1 - best >= patience else None
