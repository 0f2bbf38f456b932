"""Intervals of shares, and of means over a few seeds: such as the figure itself can have.

A bootstrap of a share that is 0 or 1 has no width, and a normal or a Student's interval may leave
[0, 1]. Wilson's does neither (Wilson 1927, doi:10.1080/01621459.1927.10502953; Brown, Cai and
DasGupta 2001, doi:10.1214/ss/1009213286, recommend it).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from llm_gym.statistics.resampling import Estimate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FEWEST_SEEDS = 3
"""Of fewer seeds the values are told one by one: how they vary cannot be known."""


def share_interval(
    share: float, trials: float, *, level: float = 0.95, quantile: float | None = None
) -> tuple[float, float]:
    """Wilson's interval of a share.

    Args:
        share: From 0 to 1.
        trials: On how many independent trials it rests; need not be whole.
        level: Probability that the interval shall cover.
        quantile: Of a standardised deviation, two-sided at `level`; None is the normal one.

    Returns:
        Lower and upper end: in [0, 1], around the share, and never equal.

    Raises:
        ValueError: A value out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share!r}")
    if not 0 < trials < math.inf:
        raise ValueError(f"trials must be above 0 and finite, got {trials!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    deviation = NormalDist().inv_cdf((1 + level) / 2) if quantile is None else quantile
    prior = deviation**2 / trials
    centre = (share + prior / 2) / (1 + prior)
    half = math.sqrt(prior * (share * (1 - share) + prior / 4)) / (1 + prior)
    # Rounding must not put an end on the wrong side of the share.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def estimate_share(
    hits: ArrayLike, out_of: ArrayLike | None = None, *, level: float = 0.95
) -> Estimate:
    """A share over independent units, with Wilson's interval.

    Args:
        hits: float `(n,)`, from 0 to `out_of`, halves and such included.
        out_of: float `(n,)`, how much each unit counts; None is 1 each. A unit counts as one
            trial, however much it holds: what is inside depends on each other. Units that count
            differently are as many trials as Kish's effective size says (Survey Sampling, 1965).
        level: Probability that the interval shall cover.

    Returns:
        The share; NaN without units.

    Raises:
        ValueError: Hits out of range.
    """
    hit = np.asarray(hits, dtype=np.float64)
    total = np.ones_like(hit) if out_of is None else np.asarray(out_of, dtype=np.float64)
    if not ((hit >= 0) & (hit <= total)).all():
        raise ValueError("hits must be from 0 to out_of, each")
    if not total.sum():
        return Estimate(math.nan, math.nan, math.nan, 0)
    share = min(1.0, float(hit.sum() / total.sum()))
    trials = float(total.sum() ** 2 / (total**2).sum())
    return Estimate(share, *share_interval(share, trials, level=level), len(hit))


def mean_over_seeds(values: ArrayLike, *, is_share: bool = False, level: float = 0.95) -> Estimate:
    """Mean of what each seed gave, with an interval by Student's t; none below `FEWEST_SEEDS`.

    Args:
        values: float `(seeds,)`, at least one.
        is_share: Whether a value is a share: then the interval is Wilson's, of as many trials as
            would make the seeds vary as they do, with Student's quantile; of as many as there are
            seeds where all have the same value.
        level: Probability that the interval shall cover.

    Returns:
        The mean; the ends are NaN if there are too few seeds.

    Raises:
        ValueError: `level` is out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    seeds = np.asarray(values, dtype=np.float64)
    mean = float(seeds.mean())
    if len(seeds) < FEWEST_SEEDS:
        return Estimate(mean, math.nan, math.nan, len(seeds))
    quantile = student_quantile(len(seeds) - 1, level=level)
    error = float(seeds.std(ddof=1)) / math.sqrt(len(seeds))
    if not is_share:
        return Estimate(mean, mean - quantile * error, mean + quantile * error, len(seeds))
    mean = min(1.0, max(0.0, mean))  # a sum of shares may round to a little more
    trials = mean * (1 - mean) / error**2 if error > 1e-9 else float(len(seeds))
    ends = share_interval(mean, trials or float(len(seeds)), level=level, quantile=quantile)
    return Estimate(mean, *ends, len(seeds))


def student_quantile(degrees: int, *, level: float = 0.95) -> float:
    """Two-sided quantile of Student's t distribution, to a relative 1e-4.

    Args:
        degrees: Degrees of freedom, at least 1.
        level: Probability between minus and plus the quantile.
    """
    # t = sqrt(degrees) tan(angle) has a density in the angle that is a power of its cosine.
    angles = np.linspace(0, math.pi / 2, 20_001)
    density = np.cos(angles) ** (degrees - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    angle = np.interp(level, mass / mass[-1], angles)
    return math.sqrt(degrees) * math.tan(angle)
