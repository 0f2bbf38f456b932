"""Learning rates where the optimum is known: the same are tried for every algorithm."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.algorithms.known_optimum.plan import KnownPlan, rated_jobs
from benchmarks.algorithms.known_optimum.settings import LEARNING_RATES

TUNING_SEED = 1000
"""The first problem of tuning, far from those that are reported."""


def tuning_jobs(plan: KnownPlan) -> list[dict[str, Any]]:
    """Every learning rate for every algorithm on every task: the same budget for all."""
    seeds = range(TUNING_SEED, TUNING_SEED + plan.budget.tuning_seeds)
    rates = dict.fromkeys(plan.entries, LEARNING_RATES)
    return rated_jobs("tune", seeds, plan.entries, plan.tasks, plan.budget, rates)


def choose_rates(runs: list[dict[str, Any]], plan: KnownPlan) -> dict[str, Any]:
    """The best rate of every algorithm, by its mean gain over tasks and problems.

    Args:
        runs: Runs of tuning, finished ones and others.
        plan: What was tuned.

    Returns:
        `chosen` and `mean_gain` by algorithm, and the `budget`.
    """
    gains: dict[str, dict[float, list[float]]] = {name: {} for name in plan.entries}
    for run in runs:
        if run["status"] == "done":
            of_rate = gains[run["algorithm"]].setdefault(run["learning_rate"], [])
            of_rate.append(run["end"]["gain"])
    table = {
        name: {str(rate): sum(ends) / len(ends) for rate, ends in sorted(by_rate.items())}
        for name, by_rate in gains.items()
    }
    return {
        "chosen": {
            name: float(max(means, key=lambda rate: means[rate]))
            for name, means in table.items()
            if means
        },
        "mean_gain": table,
        "budget": asdict(plan.budget),
    }


def tuned(plan: KnownPlan, path: Path) -> KnownPlan:
    """The plan with the learning rates of a file of tunings, where there is one."""
    if not path.exists():
        return plan
    rates = json.loads(path.read_text(encoding="utf-8")).get("chosen", {})
    entries = {
        name: replace(entry, learning_rate=rates.get(name, entry.learning_rate))
        for name, entry in plan.entries.items()
    }
    return replace(plan, entries=entries)
