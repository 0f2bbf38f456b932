"""The bootstrap: one way to draw resamples, and intervals made from them.

A resample draws as many units as there are, with replacement (Efron and Tibshirani, An Introduction
to the Bootstrap, 1993, chapters 6 and 13). `resample` draws them all. `bootstrap` is the interval
of any statistic; `Bootstrap.estimate` is that of a statistic of sums, whose resamples are one
matrix product because a resampled data set is the old one with whole numbers as weights.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_CHUNK = 4_000_000  # units drawn at once, 32 MB


class Estimate(NamedTuple):
    """A figure with its interval.

    Attributes:
        value: The figure; NaN where the data do not define it.
        low: Lower end of its interval.
        high: Upper end.
        n: Comparisons that it rests on.
    """

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """JSON-able form; None for NaN."""
        return {name: None if np.isnan(value) else value for name, value in self._asdict().items()}


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


def resample(
    number: int, resamples: int, rng: np.random.Generator, *, rows: int | None = None
) -> Iterator[NDArray[np.int64]]:
    """Which of `number` units each resample draws, in chunks of resamples.

    Args:
        number: Units, at least 1.
        resamples: How many resamples.
        rng: Where chance comes from. The draws do not depend on the size of the chunks.
        rows: Resamples of a chunk; None takes as many as fit 32 MB.

    Yields:
        int64 `(rows, number)`, places of units; the last chunk may have fewer rows.
    """
    rows = rows or max(1, _CHUNK // number)
    for start in range(0, resamples, rows):
        yield rng.integers(number, size=(min(rows, resamples - start), number))


def weights_of(places: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often each resample drew each unit, float `(rows, number)`, of `resample`'s places."""
    rows, number = places.shape
    offset = places + number * np.arange(rows)[:, None]
    counts = np.bincount(offset.ravel(), minlength=rows * number)
    return counts.reshape(rows, number).astype(np.float64)


def resample_weights(number: int, settings: Bootstrap) -> Iterator[NDArray[np.float64]]:
    """How often each of `number` units is drawn, float `(b, number)`, in chunks of resamples."""
    rng = np.random.default_rng(settings.seed)
    return map(weights_of, resample(number, settings.resamples, rng))


def interval(
    values: NDArray[np.float64], level: float, *, method: Literal["linear", "nearest"] = "linear"
) -> tuple[float, float]:
    """Percentile interval of the resamples in which the statistic is defined; NaN if in none.

    Args:
        values: float `(resamples,)`, NaN where the statistic is not defined.
        level: Probability that the interval shall cover.
        method: "linear" interpolates between neighbours; "nearest" takes one of the values, which
            must be where some are infinite, because interpolation makes NaN of two infinities.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method=method)
    return float(low), float(high)


def bootstrap(
    samples: Sequence[ArrayLike],
    statistic: Callable[..., Any],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of independent samples.

    Args:
        samples: One or more samples of numbers; each is resampled by itself, with replacement.
        statistic: Takes the resampled arrays, float64 `(b, n)` each, and returns the statistic of
            each row, `(b,)`.
        level: Probability that the interval shall cover.
        resamples: How often to resample, at least once.
        seed: Seed of the resampling, fixed so that a result has one interval.

    Returns:
        Lower and upper end; with a single number in each sample they are equal.

    Raises:
        ValueError: A sample is empty, or an argument is out of range.
    """
    if isinstance(resamples, bool) or not isinstance(resamples, numbers.Integral) or resamples < 1:
        raise ValueError(f"resamples must be a whole number of at least 1, got {resamples!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    if not all(values.size for values in arrays):
        raise ValueError("samples has an empty sample; there is nothing to resample")
    rng = np.random.default_rng(seed)
    # Several samples are drawn whole, one after the other; a single one may be large.
    rows = None if len(arrays) == 1 else resamples
    chunks = zip(*(resample(len(v), resamples, rng, rows=rows) for v in arrays), strict=True)
    drawn = [
        statistic(*(values[places] for values, places in zip(arrays, chunk, strict=True)))
        for chunk in chunks
    ]
    return interval(np.concatenate(drawn), level)


def bootstrap_interval(
    values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean: `bootstrap` of one sample, float `(n,)`, n >= 1."""
    return bootstrap(
        [values], lambda drawn: drawn.mean(1), level=level, resamples=resamples, seed=seed
    )
