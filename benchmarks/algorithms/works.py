"""Everything there is to do, as jobs, and the function that does one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.algorithms.flight_training import train_to_fly
from benchmarks.algorithms.gradients import KL_VARIANTS, measure_gradient, measure_kl_gradient
from benchmarks.algorithms.lengths import LENGTH_ENTRIES, measure_lengths
from benchmarks.algorithms.settings import (
    LEARNING_RATES,
    Budget,
    Entry,
    Task,
    fingerprint,
    of_a_run,
)
from benchmarks.algorithms.text_models import make_model
from benchmarks.algorithms.text_training import train_on_text
from benchmarks.algorithms.training import train

Job = dict[str, Any]

WORKS = {
    "train": train,
    "gradient": measure_gradient,
    "kl": measure_kl_gradient,
    "lengths": measure_lengths,
    "tune": train,
    "text": train_on_text,
    "text-tune": train_on_text,
    "model": make_model,
    "flight": train_to_fly,
}
TUNING_SEED = 1000
"""The first problem of tuning, far from those that are reported."""


def dispatch(job: Job) -> dict[str, Any]:
    """Does a job."""
    return WORKS[job["kind"]](job)


def all_jobs(entries: dict[str, Entry], tasks: dict[str, Task], budget: Budget) -> list[Job]:
    """Training, gradients and the experiments of the claims; seed by seed, training first."""
    seeds = range(budget.first_seed, budget.first_seed + budget.seeds)
    jobs = [
        _job("train", name, task_name, seed, budget, entry=entry, task=task)
        for seed in seeds
        for name, entry in entries.items()
        for task_name, task in tasks.items()
    ]
    if not budget.gradient_rollouts:
        return jobs
    jobs += [
        _job("gradient", name, task_name, seed, budget, entry=entry, task=task)
        for seed in seeds[: budget.gradient_seeds]
        for name, entry in entries.items()
        if entry.one_step is not None
        for task_name, task in tasks.items()
        if task.reference == "tabular"
    ]
    jobs += [
        _job("kl", "policy_gradient", task_name, seed, budget, variant=variant, task=task)
        for seed in seeds[: budget.gradient_seeds]
        for variant in KL_VARIANTS
        for task_name, task in list(tasks.items())[:1]
    ]
    return jobs + [
        _job("lengths", name, "first word", seed, budget, entry=entries[name])
        for seed in seeds
        for name in LENGTH_ENTRIES
        if name in entries
    ]


def tuning_jobs(entries: dict[str, Entry], tasks: dict[str, Task], budget: Budget) -> list[Job]:
    """Every learning rate for every algorithm on every task: the same budget for all."""
    return [
        _job(
            "tune",
            name,
            task_name,
            TUNING_SEED + index,
            budget,
            entry=replace(entry, learning_rate=rate),
            task=task,
            learning_rate=rate,
        )
        for index in range(budget.tuning_seeds)
        for name, entry in entries.items()
        for task_name, task in tasks.items()
        for rate in LEARNING_RATES
    ]


def _job(
    kind: str, algorithm: str, task_name: str, seed: int, budget: Budget, **details: Any
) -> Job:
    """A job: what it is called, what its settings are, and what the work needs."""
    extra = [str(details[name]) for name in ("variant", "learning_rate") if name in details]
    names = {"kind": kind, "algorithm": algorithm, "seed": seed}
    return {
        **names,
        **details,
        "task_name": task_name,
        "key": "/".join([kind, algorithm, task_name, *extra, str(seed)]),
        "settings": fingerprint(kind, *details.values(), of_a_run(budget)),
        "budget": budget,
    }
