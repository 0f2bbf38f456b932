"""What a reward model cannot learn from, said before hours are spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from llm_gym.feedback.preferences import Preference

__all__ = [
    "MINIMUM",
    "check_preferences",
    "numbers_of",
]

MINIMUM = 10
"""Fewest comparisons or ratings to train on. Hundreds are few, too."""

_SIDES = ("chosen", "rejected")  # what a store's column `shown_first` says


def check_preferences(preferences: Sequence[Preference]) -> None:
    """Refuses comparisons from which no order of answers can be learnt.

    Args:
        preferences: Rows to train on; `Preference` itself refuses empty and identical texts.

    Raises:
        TypeError: A row that is no `Preference`.
        ValueError: Too few rows, rows that contradict each other throughout, or one-sided ones: the
            same answer beats the same answer everywhere, or the answer shown first always wins.
    """
    for index, row in enumerate(preferences):
        if not isinstance(row, Preference):
            raise TypeError(f"preferences[{index}] must be a Preference, got {row!r:.80}")
    if len(preferences) < MINIMUM:
        raise ValueError(
            f"there are {len(preferences)} comparisons to train on, too few: at least {MINIMUM} "
            "are needed, and hundreds for a reward model that is worth something"
        )
    wins = Counter((row.prompt, row.chosen, row.rejected) for row in preferences)
    if all(wins[prompt, rejected, chosen] == n for (prompt, chosen, rejected), n in wins.items()):
        raise ValueError(
            f"the {len(preferences)} comparisons contradict each other throughout: every answer is "
            "as often rejected as chosen against the same other one, so there is nothing to learn"
        )
    if len({(row.chosen, row.rejected) for row in preferences}) == 1:
        raise ValueError(
            f"the comparisons are one-sided: all {len(preferences)} prefer the same answer "
            f"({preferences[0].chosen!r:.60}) to the same other one; compare different answers"
        )
    sides = {row.columns.get("shown_first") for row in preferences}
    if len(sides) == 1 and sides <= set(_SIDES):
        side = "first" if sides == {"chosen"} else "second"
        raise ValueError(
            f"the votes are one-sided: in all {len(preferences)} comparisons the answer that was "
            f"shown {side} won, so they say where raters look and not what they like; show the "
            "answers in random order"
        )


def numbers_of(preferences: Sequence[Preference], column: str, what: str) -> list[float]:
    """Reads a column of numbers.

    Args:
        preferences: The rows.
        column: Its name.
        what: The parameter that named it, for messages.

    Raises:
        ValueError: A row has no such number, or one that is negative or not finite.
    """
    values = []
    for index, row in enumerate(preferences):
        value: Any = row.columns.get(column)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value < float("inf"):
            raise ValueError(
                f"{what}={column!r}: every row needs a number of at least 0 in this column, "
                f"preferences[{index}] has {value!r}"
            )
        values.append(float(value))
    return values
