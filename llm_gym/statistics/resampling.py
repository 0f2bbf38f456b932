"""Bootstrap intervals of statistics that are functions of sums over comparisons.

Because a resampled data set is the old one with whole numbers as weights, all resamples of such a
statistic are one matrix product (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapters 6 and 13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DEFAULT", "Bootstrap", "Estimate", "interval", "resample_weights"]

_CHUNK = 4_000_000  # weights held at once, 32 MB


class Estimate(NamedTuple):
    """A figure with its interval.

    Attributes:
        value: The figure; NaN where the data do not define it.
        low: Lower end of the bootstrap interval.
        high: Upper end.
        n: Comparisons that it rests on.
    """

    value: float
    low: float
    high: float
    n: int


class Bootstrap(NamedTuple):
    """How to bootstrap.

    Attributes:
        resamples: How often; 0 leaves the interval out (NaN).
        level: Probability that the interval shall cover.
        seed: Seed of the resampling, fixed so that a result has one interval.
    """

    resamples: int = 1000
    level: float = 0.95
    seed: int = 0

    def checked(self) -> Bootstrap:
        """Itself; ValueError if a setting is out of range."""
        if self.resamples < 0:
            raise ValueError(f"resamples must be at least 0, got {self.resamples}")
        if not 0 < self.level < 1:
            raise ValueError(f"level must be between 0 and 1, got {self.level}")
        return self

    def estimate(
        self,
        contributions: NDArray[np.float64],
        statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    ) -> Estimate:
        """A statistic of sums over independent units, with its percentile interval.

        Args:
            contributions: float `(n, k)`, what each unit adds to the k sums.
            statistic: Takes sums float `(..., k)` and returns float `(...)`, NaN where undefined.
        """
        number = len(contributions)
        if not number:
            return Estimate(float("nan"), float("nan"), float("nan"), 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(statistic(contributions.sum(axis=0)))
            drawn = [
                statistic(weights @ contributions)  # (b, n) @ (n, k)
                for weights in resample_weights(number, self)
            ]
        return Estimate(value, *interval(np.concatenate([*drawn, np.zeros(0)]), self.level), number)


DEFAULT = Bootstrap()


def resample_weights(number: int, settings: Bootstrap) -> Iterator[NDArray[np.float64]]:
    """How often each of `number` units is drawn, float `(b, number)`, in chunks of resamples."""
    rng = np.random.default_rng(settings.seed)
    chunk = max(1, _CHUNK // number)
    for start in range(0, settings.resamples, chunk):
        size = min(chunk, settings.resamples - start)
        drawn = rng.integers(number, size=(size, number))
        offset = drawn + number * np.arange(size)[:, None]
        counts = np.bincount(offset.ravel(), minlength=size * number)
        yield counts.reshape(size, number).astype(np.float64)


def interval(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Percentile interval of the resamples in which the statistic is defined; NaN if in none."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(
    values: NDArray[np.float64], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron and Tibshirani, 1993, chapter 13).

    Args:
        values: float `(n,)`, n at least 1; one number an independent unit, here a prompt.
        level: Probability that the interval shall cover.
        resamples: How often to resample.
        seed: Seed of the resampling, fixed so that a result has one interval.

    Returns:
        Lower and upper end.
    """
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
