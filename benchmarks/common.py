"""What every benchmark records: where it ran, figures with intervals, lines of a log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from llm_gym.files.atomic import write_text
from llm_gym.files.provenance import commit, machine, versions
from llm_gym.statistics.resampling import bootstrap, bootstrap_interval
from llm_gym.statistics.shares import FEWEST_SEEDS, mean_over_seeds

ROOT = Path(__file__).resolve().parents[1]


def record(settings: dict[str, Any]) -> dict[str, Any]:
    """Where, when and with what a benchmark ran; the head of every `results.json`."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "settings": settings,
    }


def mean_with_interval(values: ArrayLike) -> dict[str, Any]:
    """Mean and its 95 % bootstrap interval; fewer than three values have none, and are all told."""
    if np.size(values) < FEWEST_SEEDS:
        return with_values(values)
    low, high = bootstrap_interval(values)
    return {"mean": float(np.mean(values)), "low": low, "high": high}


def with_values(values: ArrayLike) -> dict[str, Any]:
    """Mean of too few values for an interval, and the values."""
    listed = np.asarray(values, dtype=np.float64).tolist()
    return {"mean": float(np.mean(listed)), "low": None, "high": None, "values": listed}


def of_seeds(values: ArrayLike, *, is_share: bool = False) -> dict[str, Any]:
    """Mean over seeds with its 95 % interval by Student's t, a share's within [0, 1].

    As `mean_with_interval`: fewer than three have no interval.
    """
    estimate = mean_over_seeds(values, is_share=is_share)
    if np.isnan(estimate.low):
        return with_values(values)
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high}


def told(figures: dict[str, Any], digits: int, *, factor: float = 1.0, name: str = "mean") -> str:
    """A figure with its interval, or with the values that it is the mean of.

    Args:
        figures: With `name`, `low` and `high`, and `values` where these are None.
        digits: Figures after the point.
        factor: Factor of everything, 100 for per cent.
        name: Name of the figure.
    """
    ends = ("low", "high") if figures["low"] is not None else None
    behind = [figures[end] for end in ends] if ends else figures["values"]
    texts = ", ".join(f"{factor * value:.{digits}f}" for value in behind)
    figure = f"{factor * figures[name]:.{digits}f}"
    if ends:
        return f"{figure} [{texts}]"
    return f"{figure} (seeds: {texts})" if len(behind) > 1 else figure


def median_with_interval(values: ArrayLike) -> dict[str, float]:
    """Median and its 95 % bootstrap interval."""
    low, high = bootstrap([values], lambda drawn: np.median(drawn, 1))
    return {"median": float(np.median(values)), "low": low, "high": high}


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts as lines with columns; the first row is the head, the first column a name."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log of runs, JSON each; none if there is no file.

    A last line that an interruption cut off is dropped from the file, whose other lines are safe
    meanwhile.

    Raises:
        ValueError: Another line is damaged.
    """
    if not path.exists():
        return []
    whole, _, cut_off = path.read_text(encoding="utf-8").rpartition("\n")
    if cut_off:
        write_text(path, whole + "\n" if whole else "")
    lines = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number} is not JSON ({error}); delete that line, and what it held "
                "will be done again"
            ) from error
    return lines
