"""Are two systems' learning curves the same, and what does the same reward cost each?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.learning.figures import WINDOW, seconds_to, trailing_mean
from llm_gym.statistics.shares import student_quantile

Run = list[dict[str, Any]]  # the batches of one system and one seed


def paired_interval(differences: ArrayLike) -> dict[str, float]:
    """Mean and 90 % interval of paired differences, by Student's t.

    The interval lies within `(-m, m)` exactly if both one-sided tests of a difference of at least
    `m` reject at 5 % (Schuirmann, 1987, J. Pharmacokinet. Biopharm. 15).

    Args:
        differences: One a pair, shape `(n,)`.

    Returns:
        `mean`, `low` and `high`.

    Raises:
        ValueError: With fewer than two pairs there is no interval.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        raise ValueError(f"differences has {len(values)} pair(s); an interval needs at least 2")
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    half = student_quantile(len(values) - 1, level=0.9) * error
    return {"mean": mean, "low": mean - half, "high": mean + half}


def paired_ratio(ours: ArrayLike, theirs: ArrayLike) -> dict[str, float]:
    """Geometric mean of the ratios `ours / theirs` and its 90 % interval, on the log scale."""
    logs = paired_interval(np.log(np.asarray(ours)) - np.log(np.asarray(theirs)))
    return {name: math.exp(value) for name, value in logs.items()}


def verdict(interval: dict[str, float], margin: float) -> str:
    """What an interval of a difference says about equality within `margin`.

    "equal" if it lies within the margin, "different" if it lies beyond it, otherwise
    "undecided": more seeds are needed. A difference that is certain but smaller than the margin is
    "equal".
    """
    if -margin < interval["low"] and interval["high"] < margin:
        return "equal"
    if interval["low"] > margin or interval["high"] < -margin:
        return "different"
    return "undecided"


def common_reward(runs: Sequence[Run]) -> float:
    """A reward that every run reaches: nine tenths of the way to the highest such one.

    The way begins at the mean reward of the first batches. A curve's own ceiling would be a bad
    mark to time: it is reached by chance. Where a run stays below the beginning there is no way,
    and the highest that every run reaches has to do.
    """
    start = float(np.mean([run[0]["reward"] for run in runs]))
    highest = min(float(trailing_mean(_rewards(run))[WINDOW - 1 :].max()) for run in runs)
    return min(start + 0.9 * (highest - start), highest)


def seconds(run: Run) -> NDArray[np.float64]:
    """CPU seconds by batch; the first is taken to cost what the median batch costs.

    Libraries do in their first batch what they do once, which would weigh more the shorter a run.
    """
    taken = np.array([batch["cpu_seconds"] for batch in run], dtype=np.float64)
    taken[0] = np.median(taken)
    return taken


def compare(ours: Sequence[Run], theirs: Sequence[Run], margin: float) -> dict[str, Any]:
    """Figures of two systems with the same seeds.

    Args:
        ours: For each seed the batches.
        theirs: The same, of the same seeds and as many batches.
        margin: Within which mean rewards count as equal.

    Returns:
        `area` and `final` (differences of the mean reward of all, and of the last `WINDOW`
        batches, with `verdict`), `common_reward`, `seconds_ratio` (CPU seconds to that
        reward, ours over theirs), `batches_ratio` (batches to it) and `batch_seconds_ratio`
        (CPU seconds of a batch); and `rewards` and `seconds` of both, by seed.
    """
    area = [_rewards(a).mean() - _rewards(b).mean() for a, b in zip(ours, theirs, strict=True)]
    final = [
        _rewards(a)[-WINDOW:].mean() - _rewards(b)[-WINDOW:].mean()
        for a, b in zip(ours, theirs, strict=True)
    ]
    reward = common_reward([*ours, *theirs])
    figures: dict[str, Any] = {"seeds": len(ours), "common_reward": reward}
    for name, differences in (("area", area), ("final", final)):
        interval = paired_interval(differences)
        figures[name] = {**interval, "verdict": verdict(interval, margin)}
    cost = [[_cost(run, reward) for run in runs] for runs in (ours, theirs)]
    for index, name in enumerate(("seconds_ratio", "batches_ratio", "batch_seconds_ratio")):
        figures[name] = paired_ratio(*([run[index] for run in runs] for runs in cost))
    return figures


def _cost(run: Run, reward: float) -> tuple[float, float, float]:
    """CPU seconds and batches to a reward, and the mean batch's CPU seconds."""
    taken, rewards = seconds(run), _rewards(run)
    to_reward = seconds_to(reward, rewards, taken)
    batches = seconds_to(reward, rewards, np.ones_like(taken))
    assert to_reward is not None, "every run reaches the common reward"
    assert batches is not None
    return to_reward, batches, float(taken.mean())


def _rewards(run: Run) -> NDArray[np.float64]:
    return np.array([batch["reward"] for batch in run], dtype=np.float64)
