"""Solutions of lesson 6's exercises."""

from __future__ import annotations

import math


def chance_of_winning(first: float, second: float) -> float:
    """Only the difference counts."""
    return 1 / (1 + math.exp(second - first))


def kappa(one: list[str], other: list[str]) -> float:
    """By chance both say "first", or both say "second"."""
    agree = sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
    share, share_of_other = (votes.count("first") / len(votes) for votes in (one, other))
    chance = share * share_of_other + (1 - share) * (1 - share_of_other)
    return (agree - chance) / (1 - chance)
