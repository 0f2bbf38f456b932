"""Which algorithms learn to fly, which cannot and why, and the jobs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.algorithms.flight_settings import (
    FLIGHT,
    FLIGHT_ENTRIES,
    WHO_FLIES,
    FlightBudget,
    FlightEntry,
    of_a_flight_run,
    why_not_fly,
    why_only_fly,
)
from benchmarks.algorithms.settings import ENTRIES, fingerprint
from benchmarks.algorithms.text_settings import TEXT_ENTRIES


@dataclass(frozen=True)
class FlightPlan:
    """Who is to learn to fly.

    Attributes:
        entries: Those that can run, by name.
        budget: What was asked for.
        cannot_run: What cannot run, and why.
    """

    entries: dict[str, FlightEntry] = field(default_factory=dict)
    budget: FlightBudget = field(default_factory=FlightBudget)
    cannot_run: list[str] = field(default_factory=list)


def plan_flights(given: argparse.Namespace) -> FlightPlan:
    """Who can learn to fly and who cannot, known before anything starts.

    Args:
        given: The command line, as `benchmarks.algorithms.run.parse` returns it.
    """
    from benchmarks.algorithms.training import why_absent

    plan = FlightPlan()
    others = [kind for kind in given.kinds if kind != FLIGHT]
    chosen = {name: FLIGHT_ENTRIES[name] for name in given.flight_algorithms}
    if others and given.chosen:
        plan.cannot_run.extend(why_only_fly(entry, others) for entry in chosen.values())
    if FLIGHT not in given.kinds:
        return plan
    for name, entry in chosen.items():
        reason = why_absent(entry.label, entry.algorithm, entry.needs)
        if reason is None:
            plan.entries[name] = entry
        else:
            plan.cannot_run.append(reason)
    for_tokens = {**ENTRIES, **TEXT_ENTRIES}
    grounded = why_not_fly(
        for_tokens[name] for name in given.chosen or given.text_algorithms if name in for_tokens
    )
    plan.cannot_run.extend([*grounded, WHO_FLIES] if grounded else [])
    budget = FlightBudget().quick() if given.quick else FlightBudget()
    for name in ("seeds", "steps"):
        if getattr(given, name) is not None:
            budget = replace(budget, **{name: getattr(given, name)})
    return replace(plan, budget=budget)


def flight_jobs(plan: FlightPlan) -> list[dict[str, Any]]:
    """Learning to fly, seed by seed."""
    budget = plan.budget
    return [
        {
            "kind": "flight",
            "key": f"flight/{name}/{seed}",
            "algorithm": name,
            "task_name": FLIGHT,
            "seed": seed,
            "settings": fingerprint("flight", entry, of_a_flight_run(budget)),
            "entry": entry,
            "budget": budget,
        }
        for seed in range(budget.first_seed, budget.first_seed + budget.seeds)
        for name, entry in plan.entries.items()
    ]
