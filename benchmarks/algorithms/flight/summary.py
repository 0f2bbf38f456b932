"""From runs on the autopilot to results: returns, successful flights, and statistics."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.algorithms import intervals
from benchmarks.algorithms.flight.plan import FlightPlan
from benchmarks.algorithms.flight.settings import TUNING
from benchmarks.algorithms.flight.training import MEASURES
from benchmarks.autopilot.entries import LEVELS
from benchmarks.autopilot.entries import PILOTS as LABELS
from benchmarks.common import mean_with_interval, of_seeds

Run = dict[str, Any]

PILOTS = ("pid", "trim")
"""Pilots by hand that fly the same held-out flights, for comparison."""


def summarise_flights(runs: list[Run], plan: FlightPlan) -> dict[str, Any]:
    """Everything that is reported of the autopilot.

    Args:
        runs: Finished and crashed ones, of every kind.
        plan: What was to be run.

    Returns:
        `flights`: by algorithm, means over seeds and levels of turbulence with 95 % intervals
        over seeds; interquartile means, intervals stratified by level; pilots by hand.
    """
    done = [run for run in runs if run["kind"] == "flight" and run["status"] == "done"]
    by_name = {name: [run for run in done if run["algorithm"] == name] for name in plan.entries}
    by_name = {name: flown for name, flown in by_name.items() if flown}
    scores = {name: returns_of(flown) for name, flown in by_name.items()}
    pairs = [(name, "sb3_ppo") for name in scores if name != "sb3_ppo" and "sb3_ppo" in scores]
    return {
        "flights": {
            "levels": list(LEVELS),
            "budget": asdict(plan.budget),
            "algorithms": {name: asdict(entry) for name, entry in plan.entries.items()},
            "tuning": TUNING,
            "learnt": {name: _of_entry(flown) for name, flown in by_name.items()},
            "interquartile_mean": intervals.interquartile_means(scores) if scores else {},
            "improvement_over_ppo": intervals.improvement(scores, pairs),
            "pilots": by_hand(plan.budget.flights) if scores else {},
        }
    }


def returns_of(runs: list[Run]) -> intervals.Floats:
    """Held-out returns at the end: float64 `(seeds, levels)`."""
    ends = [run["end"] for run in sorted(runs, key=lambda run: run["seed"])]
    return np.array([[end[f"return/{level}"] for level in LEVELS] for end in ends])


def _of_entry(runs: list[Run]) -> dict[str, Any]:
    """An algorithm: means over seeds, and the intervals of return and success."""
    ends = [run["end"] for run in runs]
    names = [f"{measure}/{level}" for measure in MEASURES for level in LEVELS]
    return {
        "seeds": len(runs),
        "before": float(np.mean([run["start"]["return"] for run in runs])),
        "return": mean_with_interval([end["return"] for end in ends]),
        "success": of_seeds([end["success"] for end in ends], is_share=True),
        **{
            name: float(np.mean([end[name] for end in ends]))
            for name in ("steps", "cpu_seconds", "stick", *names)
        },
    }


def by_hand(flights: int) -> dict[str, dict[str, Any]]:
    """Pilots that were not learnt, in the same flights.

    Args:
        flights: At each level of turbulence.
    """
    from benchmarks.autopilot.pilots import fly_levels

    figures: dict[str, dict[str, Any]] = {}
    for name in PILOTS:
        flown = fly_levels(name, flights)
        measured = {
            "return": {level: flown[level].mean_return for level in LEVELS},
            "success": {level: flown[level].success_rate for level in LEVELS},
            "stick": {level: flown[level].means["elevator_deg_per_step"].mean for level in LEVELS},
        }
        figures[name] = {
            "label": LABELS[name],
            **{
                measure: float(np.mean(list(by_level.values())))
                for measure, by_level in measured.items()
            },
            **{
                f"{measure}/{level}": value
                for measure, by_level in measured.items()
                for level, value in by_level.items()
            },
        }
    return figures
