"""Parts of Markdown pages that all tables share."""

from __future__ import annotations


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Rows under their head, as Markdown."""
    return "\n".join([_row(head), _row(["---"] * len(head)), *map(_row, rows)])


def with_interval(interval: dict[str, float], name: str, seeds: int, digits: int = 3) -> str:
    """A figure with its interval, of which a single seed says nothing.

    Args:
        interval: With `name`, `low` and `high`.
        name: Name of the figure in it.
        seeds: Number of seeds.
        digits: Figures after the point.
    """
    ends = [f"{interval[end]:.{digits}f}" for end in ("low", "high")]
    behind = f" [{', '.join(ends)}]" if seeds > 1 else ""
    return f"{interval[name]:.{digits}f}{behind}"
