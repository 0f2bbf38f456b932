"""Parts of Markdown pages that all tables share."""

from __future__ import annotations

from typing import Any

from benchmarks.common import told
from llm_gym.statistics.shares import FEWEST_SEEDS


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Rows under their head, as Markdown."""
    return "\n".join([_row(head), _row(["---"] * len(head)), *map(_row, rows)])


def with_interval(interval: dict[str, Any], name: str, seeds: int, digits: int = 3) -> str:
    """A figure with its interval, of which one or two seeds say nothing: those are told, if known.

    Args:
        interval: With `name`, `low` and `high`.
        name: Name of the figure in it.
        seeds: Number of seeds.
        digits: Figures after the point.
    """
    if seeds == 1 or (seeds < FEWEST_SEEDS and "values" not in interval):
        return f"{interval[name]:.{digits}f}"
    return told(interval, digits, name=name)
