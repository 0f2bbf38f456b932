"""What a scorer makes of an answer while it grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_gym.scorers.protocol import Scorer


def scores_so_far(scorer: Scorer, prompt: str, beginnings: Sequence[str]) -> list[float]:
    """The score of every beginning of an answer.

    Args:
        scorer: Judges.
        prompt: What was asked.
        beginnings: What could be read of it behind each token.

    Returns:
        For each token the score if the answer ended behind it; the last is that of the whole.
    """
    if not beginnings:
        return []
    return [float(x) for x in scorer.score([prompt] * len(beginnings), list(beginnings)).values]
