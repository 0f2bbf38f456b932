"""From runs on text to results: held-out scores, and statistics over tasks."""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from benchmarks.algorithms import intervals
from benchmarks.algorithms.text.plan import TextPlan
from benchmarks.common import mean_with_interval

Run = dict[str, Any]

CRITICS = ("ppo", "ppo_separate", "ppo_detached", "ppo_zero_start")
"""PPO with different critics; all else is the same."""


def summarise_text(runs: list[Run], plan: TextPlan) -> dict[str, Any]:
    """Everything that is reported of tasks of text.

    Args:
        runs: Finished and crashed ones, of every kind.
        plan: What was to be run.

    Returns:
        `held_out` by task and algorithm, and `text`: differences between critics by task, and
        statistics over tasks, of the algorithms that ran on all of them.
    """
    done = [run for run in runs if run["kind"] == "text" and run["status"] == "done"]
    names = list(plan.tasks)
    entries = {name: entry for able in plan.entries.values() for name, entry in able.items()}
    held_out: dict[str, dict[str, Any]] = {}
    for task in names:
        for name in plan.entries[task]:
            of_entry = [run for run in done if (run["task"], run["algorithm"]) == (task, name)]
            if of_entry:
                rate = plan.entries[task][name].learning_rate
                held_out.setdefault(task, {})[name] = {**_of_entry(of_entry), "learning_rate": rate}
    matrices = {
        name: intervals.score_matrix(
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
            "tuning": {name: plan.tuning.get(name) for name in names},
            "critics": {
                name: critics([run for run in done if run["task"] == name]) for name in names
            },
            "interquartile_mean": intervals.interquartile_means(scores) if scores else {},
            "profiles": intervals.profiles(scores),
            "improvement_over_ppo": intervals.improvement(scores, pairs),
        },
    }


def critics(runs: list[Run]) -> list[dict[str, Any]]:
    """How much higher PPO ends with one critic than with another, seed by seed.

    Args:
        runs: Finished ones on a task.

    Returns:
        Pairs `better` and `worse` with `seeds`, `mean`, `low` and `high` of the
        difference between their scores, of pairs with seeds in common.
    """
    scores: dict[str, dict[int, float]] = {name: {} for name in CRITICS}
    for run in runs:
        if run["algorithm"] in scores:
            scores[run["algorithm"]][run["seed"]] = run["end"]["score"]
    differences = []
    for pair in combinations(CRITICS, 2):
        first, second = (scores[name] for name in pair)
        gaps = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
        if gaps:
            better, worse = pair if np.mean(gaps) >= 0 else pair[::-1]
            sign = 1 if better == pair[0] else -1
            interval = mean_with_interval([sign * gap for gap in gaps])
            differences.append({"better": better, "worse": worse, "seeds": len(gaps), **interval})
    return differences


def _of_entry(runs: list[Run]) -> dict[str, Any]:
    """An algorithm on a task: means over seeds, with intervals for scores."""
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
        "objective": mean_with_interval([run["end"]["objective"] for run in runs]),
        **mean,
    }
