"""Learning rates for tasks of text: the same ones are tried for every algorithm.

A rate is chosen for each task by the objective at the end, score less the price of the divergence,
on prompts of training, with seeds that no reported run has.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.algorithms.text.plan import TextPlan, model_settings, text_job
from benchmarks.algorithms.text.settings import TEXT_LEARNING_RATES, TextTask

TUNING_SEED = 1000
"""The first seed of tuning, far from those that are reported."""

Tuning = dict[str, Any]


def tuning_task(plan: TextPlan, name: str) -> TextTask:
    """A task as it is tuned on: with a share of its tokens."""
    task = plan.tasks[name]
    return replace(task, tokens=max(1, round(task.tokens * plan.budget.tuning_share)))


def text_tuning_jobs(plan: TextPlan) -> list[dict[str, Any]]:
    """Every learning rate for every algorithm on every task, seed by seed."""
    # The curve is not wanted: one evaluation before training and one at the end.
    budget = replace(plan.budget, evaluations=1)
    models = {name: model_settings(plan, name) for name in plan.tasks}
    return [
        {
            **text_job(
                "text-tune",
                replace(entry, learning_rate=rate),
                tuning_task(plan, task_name),
                budget,
                models[task_name],
            ),
            "key": f"text-tune/{name}/{task_name}/{rate}/{seed}",
            "algorithm": name,
            "task_name": task_name,
            "seed": seed,
            "learning_rate": rate,
            "folder": plan.folders.get(task_name),
        }
        for seed in range(TUNING_SEED, TUNING_SEED + budget.tuning_seeds)
        for task_name in plan.tasks
        for name, entry in plan.entries[task_name].items()
        for rate in TEXT_LEARNING_RATES[task_name]
    ]


def choose_rates(runs: list[dict[str, Any]], plan: TextPlan) -> dict[str, Tuning]:
    """The best rate of every algorithm on every task.

    Args:
        runs: Runs of tuning, finished ones and others.
        plan: What was to be run.

    Returns:
        By task: `chosen` and `mean_objective` by algorithm, and `how` they were found.
    """
    tunings: dict[str, Tuning] = {}
    for task_name in plan.tasks:
        table: dict[str, dict[str, float]] = {}
        for name in plan.entries[task_name]:
            ends: dict[float, list[float]] = {}
            for run in runs:
                if (run["task"], run["algorithm"], run["status"]) == (task_name, name, "done"):
                    ends.setdefault(run["learning_rate"], []).append(run["end"]["objective"])
            if ends:
                table[name] = {str(rate): float(np.mean(values)) for rate, values in ends.items()}
        tunings[task_name] = {
            "chosen": {
                name: float(max(means, key=lambda rate: means[rate]))
                for name, means in table.items()
            },
            "mean_objective": table,
            "how": {
                "learning_rates": list(TEXT_LEARNING_RATES[task_name]),
                "first_seed": TUNING_SEED,
                "seeds": plan.budget.tuning_seeds,
                "tokens": tuning_task(plan, task_name).tokens,
                "prompts": "of training",
            },
        }
    return tunings


def merged(before: dict[str, Tuning], now: dict[str, Tuning]) -> dict[str, Tuning]:
    """Tunings of before with those of now; other algorithms of a task stay if tuned alike."""
    both = dict(before)
    for task, new in now.items():
        old = before.get(task, {})
        if old.get("how") == new["how"]:
            tables = ("chosen", "mean_objective")
            new = {**new, **{name: {**old[name], **new[name]} for name in tables}}
        both[task] = new
    return both


def tuned_text(plan: TextPlan, path: Path) -> TextPlan:
    """The plan with the learning rates of a file of tunings, where there is one."""
    tunings = json.loads(path.read_text(encoding="utf-8")).get("text", {}) if path.exists() else {}
    tuning = {name: tunings[name] for name in tunings if name in plan.tasks}
    entries = {}
    for task, of_task in plan.entries.items():
        rates = tuning[task]["chosen"] if task in tuning else {}
        entries[task] = {
            name: replace(entry, learning_rate=rates.get(name, entry.learning_rate))
            for name, entry in of_task.items()
        }
    return replace(plan, entries=entries, tuning=tuning)
