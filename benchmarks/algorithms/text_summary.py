"""From runs on text to results: held-out scores, and statistics over tasks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.algorithms import statistics
from benchmarks.algorithms.text_run import TextPlan
from benchmarks.common import mean_with_interval

Run = dict[str, Any]


def summarise_text(runs: list[Run], plan: TextPlan) -> dict[str, Any]:
    """Everything that is reported of tasks of text.

    Args:
        runs: Finished and crashed ones, of every kind.
        plan: What was asked for.

    Returns:
        ``held_out`` by task and algorithm, and ``text``: statistics over tasks, of the algorithms
        that ran on all of them.
    """
    done = [run for run in runs if run["kind"] == "text" and run["status"] == "done"]
    names = list(plan.tasks)
    entries = {name: entry for one in plan.entries.values() for name, entry in one.items()}
    held_out: dict[str, dict[str, Any]] = {}
    for task in names:
        for name in plan.entries[task]:
            mine = [run for run in done if (run["task"], run["algorithm"]) == (task, name)]
            if mine:
                held_out.setdefault(task, {})[name] = _of_one(mine)
    matrices = {
        name: statistics.score_matrix(
            [run for run in done if run["algorithm"] == name], names, "score"
        )
        for name in entries
    }
    scores = {name: matrix for name, matrix in matrices.items() if len(matrix)}
    pairs = [(name, "ppo") for name in scores if name != "ppo" and "ppo" in scores]
    return {
        "held_out": held_out,
        "text": {
            "tasks": names,
            "settings": {name: asdict(task) for name, task in plan.tasks.items()},
            "budget": asdict(plan.budget),
            "algorithms": {name: asdict(entry) for name, entry in entries.items()},
            "tuning": "none: every algorithm has the settings given here, chosen beforehand",
            "interquartile_mean": statistics.interquartile_means(scores) if scores else {},
            "profiles": statistics.profiles(scores),
            "improvement_over_ppo": statistics.improvement(scores, pairs),
        },
    }


def _of_one(runs: list[Run]) -> dict[str, Any]:
    """An algorithm on a task: means over seeds, and the interval of the score."""
    mean = {
        name: float(np.mean([run["end"][name] for run in runs]))
        for name in ("kl_to_reference", "length", "share_ended", "tokens", "cpu_seconds")
    }
    before = [run["start"]["score"] for run in runs]
    after = [run["end"]["score"] for run in runs]
    gains = [new - old for old, new in zip(before, after, strict=True)]
    return {
        "seeds": len(runs),
        "before": float(np.mean(before)),
        "after": mean_with_interval(after),
        "gain": mean_with_interval(gains),
        **mean,
    }
