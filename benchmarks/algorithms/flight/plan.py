"""Which algorithms learn to fly, which cannot and why, and the jobs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.algorithms.flight.settings import (
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
from benchmarks.algorithms.text.plan import text_entries
from benchmarks.algorithms.text.settings import TEXT_ENTRIES


@dataclass(frozen=True)
class FlightPlan:
    """Who is to learn to fly.

    Attributes:
        entries: Those that can run, by name.
        budget: How much of everything.
        cannot_run: What cannot run, and why.
    """

    entries: dict[str, FlightEntry] = field(default_factory=dict)
    budget: FlightBudget = field(default_factory=FlightBudget)
    cannot_run: list[str] = field(default_factory=list)

    def jobs(self) -> list[dict[str, Any]]:
        """See `flight_jobs`."""
        return flight_jobs(self)

    def summarise(self, runs: list[dict[str, Any]]) -> dict[str, Any]:
        """See `summarise_flights`; nothing where nobody flies."""
        from benchmarks.algorithms.flight.summary import summarise_flights

        return summarise_flights(runs, self) if self.entries else {}

    def draw(self, results: dict[str, Any], runs: list[dict[str, Any]], output: Path) -> list[Path]:
        """Writes the picture of finished runs, if there are any."""
        from benchmarks.algorithms.flight.pictures import draw_flights

        if not results.get("flights", {}).get("learnt"):
            return []
        flights = [run for run in runs if run["kind"] == "flight"]
        return [draw_flights(results, flights, output / "flights.png")]


def flight_entries(options: argparse.Namespace) -> dict[str, FlightEntry]:
    """The stock algorithms of `--algorithms`, or all of them."""
    names = options.algorithms or FLIGHT_ENTRIES
    return {name: FLIGHT_ENTRIES[name] for name in names if name in FLIGHT_ENTRIES}


def plan_flights(options: argparse.Namespace) -> FlightPlan:
    """Who can learn to fly and who cannot, known before anything starts.

    Args:
        options: The command line, as `benchmarks.algorithms.run.parse` returns it.
    """
    from benchmarks.algorithms.building import why_absent

    plan = FlightPlan()
    other_kinds = [kind for kind in options.kinds if kind != FLIGHT]
    chosen = flight_entries(options)
    if other_kinds and options.algorithms:
        plan.cannot_run.extend(why_only_fly(entry, other_kinds) for entry in chosen.values())
    if FLIGHT not in options.kinds:
        return plan
    for name, entry in chosen.items():
        reason = why_absent(entry.label, entry.algorithm, entry.needs)
        if reason is None:
            plan.entries[name] = entry
        else:
            plan.cannot_run.append(reason)
    for_tokens = {**ENTRIES, **TEXT_ENTRIES}
    names = options.algorithms or text_entries(options)
    grounded = why_not_fly(for_tokens[name] for name in names if name in for_tokens)
    plan.cannot_run.extend([*grounded, WHO_FLIES] if grounded else [])
    budget = FlightBudget().quick() if options.quick else FlightBudget()
    for name in ("seeds", "steps"):
        if getattr(options, name) is not None:
            budget = replace(budget, **{name: getattr(options, name)})
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
