"""Statistics over runs and tasks after Agarwal et al. (2108.13264), computed by rliable."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
DISTANCES = np.geomspace(1.0, 1e-4, 81)
"""Distances from a score of 1 at which profiles are taken: most runs differ near the optimum."""


def require_rliable() -> None:
    """Raises a clear `ImportError` if rliable cannot be used."""
    try:
        import rliable.library  # noqa: F401
    except (ImportError, TypeError) as error:  # arch 7.2 with pandas 3 ends in a TypeError
        raise ImportError(
            "the statistics need rliable: pip install rliable 'pandas<3' (arch 7, which it uses, "
            f"does not work with pandas 3); importing it gave: {error}"
        ) from error


def score_matrix(runs: list[dict[str, Any]], tasks: list[str], figure: str) -> Floats:
    """A figure at the end of runs: float64 `(seeds, tasks)`, of the seeds that did all tasks.

    Args:
        runs: Runs of one algorithm.
        tasks: Names of the tasks, the columns.
        figure: Name of a figure in `run["end"]`.
    """
    scores = {(run["seed"], run["task"]): run["end"][figure] for run in runs}
    seeds = sorted({seed for seed, _ in scores})
    whole = [seed for seed in seeds if all((seed, task) in scores for task in tasks)]
    rows = [[scores[seed, task] for task in tasks] for seed in whole]
    return np.array(rows, dtype=np.float64).reshape(len(whole), len(tasks))


def interquartile_means(
    scores: dict[str, Floats], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Interquartile mean over runs and tasks with a 95 % interval, stratified by task.

    Args:
        scores: `(seeds, tasks)` by algorithm.
        resamples: Resamples of the bootstrap.
        seed: Seed of the resampling.

    Returns:
        `iqm`, `low` and `high` by algorithm.
    """
    from rliable import metrics

    estimates, intervals = _estimates(
        scores, lambda matrix: np.array([metrics.aggregate_iqm(matrix)]), resamples, seed
    )
    return {
        name: {
            "iqm": float(estimates[name][0]),
            "low": float(intervals[name][0, 0]),
            "high": float(intervals[name][1, 0]),
        }
        for name in scores
    }


def improvement(
    scores: dict[str, Floats],
    pairs: list[tuple[str, str]],
    *,
    resamples: int = 300,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Probability that a run of X is better than one of Y on a task drawn at random.

    Args:
        scores: `(seeds, tasks)` by algorithm.
        pairs: Names of X and Y.
        resamples: Resamples of the bootstrap.
        seed: Seed of the resampling.

    Returns:
        `probability`, `low` and `high` by `"X > Y"`.
    """
    from rliable import metrics

    both = {f"{x} > {y}": (scores[x], scores[y]) for x, y in pairs}
    if not both:
        return {}
    estimates, intervals = _estimates(both, metrics.probability_of_improvement, resamples, seed)
    return {
        name: {
            "probability": float(estimates[name]),
            "low": float(intervals[name][0, 0]),
            "high": float(intervals[name][1, 0]),
        }
        for name in both
    }


def _estimates(scores: dict[str, Any], statistic: Any, resamples: int, seed: int) -> Any:
    from rliable import library

    with warnings.catch_warnings():
        # rliable hands its generator on under a name that arch is about to drop.
        warnings.filterwarnings("ignore", "random_state is deprecated", FutureWarning)
        # Stratified resampling draws from NumPy's global generator, whatever it is given.
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(seed)  # noqa: NPY002
        try:
            return library.get_interval_estimates(scores, statistic, reps=resamples)
        finally:
            np.random.set_state(state)  # noqa: NPY002


def profiles(scores: dict[str, Floats]) -> dict[str, list[float]]:
    """Performance profiles: share of runs that came nearer to 1 than each of `DISTANCES`."""
    return {
        name: [float((1 - matrix < distance).mean()) for distance in DISTANCES]
        for name, matrix in scores.items()
    }
