"""Which algorithms run on which problems with a known optimum, and their jobs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.algorithms.known_optimum.settings import (
    KNOWN,
    SAME_ON_TABLES,
    TASKS,
    Budget,
    Task,
    of_a_run,
)
from benchmarks.algorithms.settings import ENTRIES, Entry, fingerprint

Job = dict[str, Any]
Run = dict[str, Any]


@dataclass(frozen=True)
class KnownPlan:
    """What is to be run where the optimum is known.

    Attributes:
        tasks: Problems by name; empty if none are wanted.
        entries: Those that can run, by name.
        budget: How much of everything.
        cannot_run: What cannot run, and why.
    """

    tasks: dict[str, Task] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    cannot_run: list[str] = field(default_factory=list)

    def jobs(self) -> list[Job]:
        """See `known_jobs`."""
        return known_jobs(self.entries, self.tasks, self.budget) if self.tasks else []

    def summarise(self, runs: list[Run]) -> dict[str, Any]:
        """See `summarise`; nothing where there are no tasks."""
        from benchmarks.algorithms.known_optimum.summary import summarise

        return summarise(runs, self) if self.tasks else {}

    def draw(self, results: dict[str, Any], runs: list[Run], output: Path) -> list[Path]:
        """Writes pictures of finished runs of training, if there are any."""
        from benchmarks.algorithms.known_optimum.pictures import draw

        training = [run for run in runs if run["kind"] == "train"]
        return draw(results, training, output) if training else []


def known_entries(options: argparse.Namespace) -> dict[str, Entry]:
    """The algorithms of `--algorithms`, or all that can differ from each other on tables."""
    names = options.algorithms or [name for name in ENTRIES if name not in SAME_ON_TABLES]
    return {name: ENTRIES[name] for name in names if name in ENTRIES}


def plan_known(options: argparse.Namespace) -> KnownPlan:
    """What can run where the optimum is known and what cannot, before anything starts.

    Args:
        options: The command line, as `benchmarks.algorithms.run.parse` returns it.
    """
    from benchmarks.algorithms.known_optimum.training import why_not

    budget = Budget().quick() if options.quick else Budget()
    for name in ("seeds", "episodes"):
        if getattr(options, name) is not None:
            budget = replace(budget, **{name: getattr(options, name)})
    plan = KnownPlan(budget=budget)
    if KNOWN not in options.kinds:
        return plan
    for name, entry in known_entries(options).items():
        reason = why_not(entry, budget)
        if reason is None:
            plan.entries[name] = entry
        else:
            plan.cannot_run.append(reason)
    return replace(plan, tasks={name: TASKS[name] for name in options.tasks or TASKS})


def known_jobs(entries: dict[str, Entry], tasks: dict[str, Task], budget: Budget) -> list[Job]:
    """Training and gradients; seed by seed, training first."""
    seeds = range(budget.first_seed, budget.first_seed + budget.seeds)
    jobs = [
        known_job("train", name, task_name, seed, budget, entry=entry, task=task)
        for seed in seeds
        for name, entry in entries.items()
        for task_name, task in tasks.items()
    ]
    if not budget.gradient_rollouts:
        return jobs
    return jobs + [
        known_job("gradient", name, task_name, seed, budget, entry=entry, task=task)
        for seed in seeds[: budget.gradient_seeds]
        for name, entry in entries.items()
        if entry.one_step is not None
        for task_name, task in tasks.items()
        if task.reference == "tabular"
    ]


def rated_jobs(
    kind: str,
    seeds: Iterable[int],
    entries: dict[str, Entry],
    tasks: dict[str, Task],
    budget: Budget,
    rates: Mapping[str, Sequence[float]],
) -> list[Job]:
    """One job for each seed, entry, task and learning rate of the entry, in this order.

    Args:
        kind: See `known_job`.
        seeds: Of problems and sampling.
        entries: Algorithms by name.
        tasks: Problems by name.
        budget: How much of everything.
        rates: By the entries' names.
    """
    return [
        known_job(
            kind,
            name,
            task_name,
            seed,
            budget,
            entry=replace(entry, learning_rate=rate),
            task=task,
            learning_rate=rate,
        )
        for seed in seeds
        for name, entry in entries.items()
        for task_name, task in tasks.items()
        for rate in rates[name]
    ]


def known_job(
    kind: str, algorithm: str, task_name: str, seed: int, budget: Budget, **details: Any
) -> Job:
    """A job: what it is called, what its settings are, and what its function needs.

    Args:
        kind: Kind of the work, see `benchmarks.algorithms.dispatch`.
        algorithm: Name of the entry.
        task_name: Name of the task.
        seed: Seed of problem and sampling.
        budget: How much of everything.
        **details: What else decides the result, all of it part of the fingerprint;
            `learning_rate` is part of the key too.
    """
    extra = [str(details["learning_rate"])] if "learning_rate" in details else []
    names = {"kind": kind, "algorithm": algorithm, "seed": seed}
    return {
        **names,
        **details,
        "task_name": task_name,
        "key": "/".join([kind, algorithm, task_name, *extra, str(seed)]),
        "settings": fingerprint(kind, *details.values(), of_a_run(budget)),
        "budget": budget,
    }
