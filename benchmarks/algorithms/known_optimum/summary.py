"""From runs to results: scores, statistics, figures to reach."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from llm_gym_known_optimum import EstimatorFigures, KnownOptimum

from benchmarks.algorithms import intervals
from benchmarks.algorithms.known_optimum.plan import KnownPlan
from benchmarks.algorithms.known_optimum.settings import Budget, Task
from benchmarks.algorithms.known_optimum.training import make_problem
from benchmarks.algorithms.settings import Entry

Run = dict[str, Any]

REACH = ("ppo", "rloo", "dr_grpo")
"""Algorithms that are to come within a hundredth of the optimum on every run."""


def summarise(runs: list[Run], plan: KnownPlan) -> dict[str, Any]:
    """Everything that is reported.

    Args:
        runs: Finished and crashed ones, of every kind.
        plan: What was to be run.
    """
    entries, tasks, budget = plan.entries, plan.tasks, plan.budget
    done = [run for run in runs if run["status"] == "done"]
    training = [run for run in done if run["kind"] == "train"]
    names = list(tasks)
    scores: dict[str, dict[str, Any]] = {"j_over_jstar": {}, "gain": {}}
    for name in entries:
        runs_of_entry = [run for run in training if run["algorithm"] == name]
        for figure, matrices in scores.items():
            matrix = intervals.score_matrix(runs_of_entry, names, figure)
            if len(matrix):
                matrices[name] = matrix
    ratio, gain = scores["j_over_jstar"], scores["gain"]
    means = {
        figure: intervals.interquartile_means(matrices) if matrices else {}
        for figure, matrices in scores.items()
    }
    kls = {name: _by_task(training, name, names, "kl_to_optimum") for name in ratio}
    return {
        "tasks": names,
        "algorithms": {name: asdict(entry) for name, entry in entries.items()},
        "seeds": {name: len(matrix) for name, matrix in ratio.items()},
        "j_over_jstar": {
            name: {
                "all": means["j_over_jstar"][name]["iqm"],
                "low": means["j_over_jstar"][name]["low"],
                "high": means["j_over_jstar"][name]["high"],
                **dict(zip(names, matrix.mean(0).tolist(), strict=True)),
            }
            for name, matrix in ratio.items()
        },
        "least_j_over_jstar": {
            name: dict(zip(names, matrix.min(0).tolist(), strict=True))
            for name, matrix in ratio.items()
        },
        "kl_to_optimum": kls,
        "interquartile_mean": means,
        "profiles": intervals.profiles(gain),
        "improvement_over_ppo": intervals.improvement(
            gain, [(name, "ppo") for name in gain if name != "ppo" and "ppo" in gain]
        ),
        "cpu_seconds_of_a_run": {
            name: float(
                np.mean([r["end"]["cpu_seconds"] for r in training if r["algorithm"] == name])
            )
            for name in ratio
        },
        "gradients": _gradients([run for run in done if run["kind"] == "gradient"], entries),
        "best_of_n": _best_of_n(tasks, budget),
        "figures_to_reach": _figures(ratio, kls, names, budget),
    }


def _by_task(training: list[Run], name: str, tasks: list[str], figure: str) -> dict[str, float]:
    return {
        task: float(
            np.mean(
                [r["end"][figure] for r in training if (r["algorithm"], r["task"]) == (name, task)]
            )
        )
        for task in tasks
    }


def _gradients(runs: list[Run], entries: dict[str, Entry]) -> dict[str, dict[str, float]]:
    """Means over tasks and problems."""
    means = {}
    for name in entries:
        rows = [run["gradient"] for run in runs if run["algorithm"] == name]
        if rows:
            fields = EstimatorFigures.__dataclass_fields__
            means[name] = {field: float(np.mean([row[field] for row in rows])) for field in fields}
            errors = [row["direction_bias_error"] for row in rows]
            means[name]["direction_bias_error"] = float(np.linalg.norm(errors) / len(errors))
    return means


def _best_of_n(tasks: dict[str, Task], budget: Budget) -> dict[str, dict[str, list[float]]]:
    """J/J* and KL to the optimum of best-of-n, exactly: what no training buys."""
    by_n: dict[str, dict[str, list[float]]] = {str(n): {} for n in (1, 4, 16)}
    for task_name, task in tasks.items():
        seeds = range(budget.first_seed, budget.first_seed + min(budget.seeds, 3))
        problems = [make_problem(task, seed) for seed in seeds]
        for n, by_task in by_n.items():
            figures = [best_of_n_figures(problem, int(n)) for problem in problems]
            by_task[task_name] = np.mean(figures, axis=0).tolist()
    return by_n


def best_of_n_figures(problem: KnownOptimum, n: int) -> tuple[float, float]:
    """J/J* and KL to the optimum of best-of-n of the reference model."""
    objectives, kls = [], []
    for prompt, best in enumerate(problem.best_of_n(n)):
        p = best.probabilities
        objectives.append(best.expectation(problem.rewards[prompt]) - problem.beta * best.kl)
        possible = p > 0
        ratio = np.log(p[possible]) - np.log(problem.optimal_answers[prompt][possible])
        kls.append(p[possible] @ ratio)
    return float(np.mean(objectives)) / problem.optimal_objective, float(np.mean(kls))


def _figures(
    ratio: dict[str, intervals.Floats],
    kls: dict[str, dict[str, float]],
    tasks: list[str],
    budget: Budget,
) -> list[dict[str, Any]]:
    figures = []
    for name in REACH:
        if name not in ratio:
            continue
        good = (ratio[name] >= 0.99).sum(0).tolist()
        count = len(ratio[name])
        figures.append(
            {
                "figure": f"{name}: J/J* >= 0.99 on every task, {budget.seeds} of {budget.seeds}",
                "reached": count == budget.seeds and min(good) == count,
                "found": ", ".join(
                    f"{task} {k} of {count}" for task, k in zip(tasks, good, strict=True)
                ),
            }
        )
    for task in tasks:
        least = min(((by_task[task], name) for name, by_task in kls.items()), default=None)
        if least is not None:
            figures.append(
                {
                    "figure": f"best configuration on {task}: KL to the optimum < 0.02",
                    "reached": least[0] < 0.02,
                    "found": f"{least[1]} {least[0]:.4f}",
                }
            )
    return figures
