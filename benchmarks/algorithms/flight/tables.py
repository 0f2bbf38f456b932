"""Flights as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.algorithms.tables import table, with_interval
from benchmarks.common import told


def all_tables(results: dict[str, Any]) -> list[str]:
    """The table of flights; nothing of runs that are not there."""
    return [_flights(results["flights"])] if "flights" in results else []


def _flights(flights: dict[str, Any]) -> str:
    """The autopilot: best first, and pilots by hand behind them."""
    rows, levels, learnt = [], flights["levels"], flights["learnt"]

    def by_level(row: dict[str, float], measure: str, factor: float = 1.0) -> str:
        return " / ".join(f"{factor * row[f'{measure}/{level}']:.0f}" for level in levels)

    for name, row in sorted(learnt.items(), key=lambda item: -item[1]["return"]["mean"]):
        mean, seeds = flights["interquartile_mean"][name], row["seeds"]
        better = flights["improvement_over_ppo"].get(f"{name} > sb3_ppo")
        rows.append(
            [
                flights["algorithms"][name]["label"],
                with_interval(row["return"], "mean", seeds, 1),
                with_interval(mean, "iqm", seeds, 1),
                by_level(row, "return"),
                told(row["success"], 0, factor=100.0),
                by_level(row, "success", 100.0),
                f"{row['stick']:.2f}",
                with_interval(better, "probability", seeds, 2) if better else "",
                f"{row['steps']:.0f}",
                f"{row['cpu_seconds']:.1f}",
                str(seeds),
            ]
        )
    for row in flights["pilots"].values():
        measured = [by_level(row, "return"), f"{100 * row['success']:.0f}"]
        measured += [by_level(row, "success", 100.0), f"{row['stick']:.2f}"]
        rows.append([row["label"], f"{row['return']:.1f}", "", *measured, "", "0", "", ""])
    head = [
        "autopilot",
        "return of 300 [95 %]",
        "IQM [95 %]",
        f"return: {' / '.join(levels)}",
        "success, % [95 %]",
        "success by level, %",
        "stick, degrees a step",
        "better than stock PPO [95 %]",
        "steps",
        "CPU s a run",
        "seeds",
    ]
    return table(head, rows) if learnt else ""
