"""The forms in which a gold score rises and falls as a proxy is optimised.

Gao, Schulman and Hilton, "Scaling laws for reward model overoptimization" (2210.10760), with
`d = sqrt(KL(policy || initial policy))` in nats and R the gain of the gold score over the initial
policy:

    best-of-n               R(d) = d (alpha - beta d)
    reinforcement learning  R(d) = d (alpha - beta log d)

It is the *form* that carries over. The coefficients belong to one set-up (the gold score, its
scale, the policy, the reward model, its data), so those of two set-ups must not be compared, nor
any with the paper's. The forms are empirical, and the paper itself finds that of reinforcement
learning poor near the origin, where its slope is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from llm_gym.statistics.resampling import interval, resample

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

Law = Literal["best_of_n", "rl"]


@dataclass(frozen=True)
class LawFit:
    """A fitted law.

    Attributes:
        law: "best_of_n" or "rl".
        alpha: Of "best_of_n" the slope at the origin, of "rl" the gain at distance 1.
        beta: How strongly over-optimisation bends the curve; <= 0 means that it does not.
        r_squared: Weighted share of the variance of the gains (about their mean) that the law
            explains; negative where a constant would do better; None where all gains are equal.
        peak_distance: D at which the law peaks; None if it has no peak.
        peak_gain: R there; None if it has no peak.
        longest_distance: Greatest d of the data. A peak beyond it is an extrapolation.
        intervals: Bootstrap intervals of `alpha`, `beta`, `peak_distance` and `peak_gain`; an upper
            end may be infinite where resamples have no peak. Empty if there was too little to
            resample.
    """

    law: Law
    alpha: float
    beta: float
    r_squared: float | None
    peak_distance: float | None
    peak_gain: float | None
    longest_distance: float
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def turns(self) -> bool:
        """Whether the fitted peak lies within the data."""
        return self.peak_distance is not None and self.peak_distance < self.longest_distance

    def value(self, distance: ArrayLike) -> Floats:
        """The law at some distances."""
        return law_value(self.law, distance, self.alpha, self.beta)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; an infinite end of an interval becomes None."""
        return {
            "law": self.law,
            "alpha": self.alpha,
            "beta": self.beta,
            "r_squared": self.r_squared,
            "peak_distance": self.peak_distance,
            "peak_gain": self.peak_gain,
            "longest_distance": self.longest_distance,
            "intervals": {
                name: [end if math.isfinite(end) else None for end in ends]
                for name, ends in self.intervals.items()
            },
        }


def law_value(law: Law, distance: ArrayLike, alpha: float, beta: float) -> Floats:
    """R(d) of a law.

    Args:
        law: "best_of_n" or "rl".
        distance: D = sqrt(KL), >= 0, any shape; at 0 both laws are 0.
        alpha: Coefficient of d, the rise.
        beta: Coefficient of the term that bends it down.
    """
    linear, bend = _features(law, np.asarray(distance, dtype=np.float64))
    return alpha * linear + beta * bend


def fit_law(
    distance: ArrayLike,
    gain: ArrayLike,
    law: Law,
    *,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> LawFit:
    """Fits a law by weighted least squares.

    Args:
        distance: `(M,)`, d = sqrt(KL) of each point, in square roots of nats, >= 0.
        gain: `(M,)`, gold score less that of the initial policy.
        law: The form to fit.
        weights: `(M,)`, positive, for example inverse variances; None weighs all alike.
        groups: `(M,)`, labels of what is independent: the run, seed or prompt a point belongs to.
            Whole groups are resampled. None takes each point by itself, which makes intervals too
            narrow for points along one training run.
        level: Probability that an interval shall cover.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        The fit, with intervals if there are at least two groups.

    Raises:
        ValueError: Shapes differ, a value is not finite or negative, or fewer than two distinct
            positive distances are given.
    """
    d, r, w = _points(distance, gain, weights)
    linear, bend = _features(law, d)
    # Sufficient statistics of each point: a resample is then a sum, not another fit.
    statistics = np.stack(
        [w * linear**2, w * linear * bend, w * bend**2, w * linear * r, w * bend * r], axis=1
    )
    alpha, beta = (float(values[0]) for values in _solve(statistics.sum(0, keepdims=True)))
    peak_d, peak_r = (
        float(values[0]) for values in _peaks(law, np.array([alpha]), np.array([beta]))
    )
    residual = r - (alpha * linear + beta * bend)
    spread = float(w @ (r - np.average(r, weights=w)) ** 2)
    return LawFit(
        law=law,
        alpha=alpha,
        beta=beta,
        r_squared=1.0 - float(w @ residual**2) / spread if spread > 0 else None,
        peak_distance=peak_d if math.isfinite(peak_d) else None,
        peak_gain=peak_r if math.isfinite(peak_d) else None,
        longest_distance=float(d.max()),
        intervals=_intervals(law, statistics, groups, level, resamples, seed),
    )


def _features(law: Law, d: Floats) -> tuple[Floats, Floats]:
    """R = alpha * first + beta * second."""
    if law not in get_args(Law):
        raise ValueError(f"law={law!r} must be one of {get_args(Law)}")
    if law == "best_of_n":
        return d, -(d**2)
    return d, -d * np.log(np.where(d > 0, d, 1.0))


def _points(
    distance: ArrayLike, gain: ArrayLike, weights: ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    d, r = np.asarray(distance, dtype=np.float64), np.asarray(gain, dtype=np.float64)
    w = np.ones_like(d) if weights is None else np.asarray(weights, dtype=np.float64)
    if d.ndim != 1 or not d.shape == r.shape == w.shape:
        raise ValueError(
            f"distance, gain and weights must be of one length, got shapes {d.shape}, {r.shape} "
            f"and {w.shape}"
        )
    for name, array in (("distance", d), ("gain", r), ("weights", w)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} contains NaN or infinity; leave such points out")
    if (d < 0).any() or (w <= 0).any():
        raise ValueError(
            "distance must be >= 0 and weights > 0; a KL estimated below 0 counts as distance 0"
        )
    if len(np.unique(d[d > 0])) < 2:
        raise ValueError("a law has two coefficients: give points at two or more distances > 0")
    return d, r, w


def _solve(sums: Floats) -> tuple[Floats, Floats]:
    """Coefficients from normal equations `(B, 5)`; NaN where they are singular."""
    a, b, c, x, y = sums.T
    determinant = a * c - b**2
    singular = determinant <= 1e-12 * a * c
    determinant = np.where(singular, np.nan, determinant)
    return (c * x - b * y) / determinant, (a * y - b * x) / determinant


def _peaks(law: Law, alpha: Floats, beta: Floats) -> tuple[Floats, Floats]:
    """Distance and gain of the peak; infinite where there is none."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if law == "best_of_n":
            distance = np.maximum(alpha, 0.0) / (2 * beta)
            gain = np.maximum(alpha, 0.0) ** 2 / (4 * beta)
        else:
            distance = np.exp(alpha / beta - 1)
            gain = beta * distance
    return np.where(beta > 0, distance, np.inf), np.where(beta > 0, gain, np.inf)


def _intervals(
    law: Law,
    statistics: Floats,
    groups: ArrayLike | None,
    level: float,
    resamples: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    if groups is not None:
        labels = np.asarray(groups)
        if labels.shape != (len(statistics),):
            raise ValueError(f"groups has shape {labels.shape}, but there are {len(statistics)}")
        _, label = np.unique(labels, return_inverse=True)
        merged = np.zeros((label.max() + 1, statistics.shape[1]))
        np.add.at(merged, label, statistics)
        statistics = merged
    if len(statistics) < 2:
        return {}
    places = resample(len(statistics), resamples, np.random.default_rng(seed))
    sums = np.concatenate([statistics[drawn].sum(1) for drawn in places])  # (resamples, 5)
    alpha, beta = _solve(sums)
    usable = np.isfinite(alpha)
    if not usable.any():
        return {}
    alpha, beta = alpha[usable], beta[usable]
    distance, gain = _peaks(law, alpha, beta)
    drawn = {"alpha": alpha, "beta": beta, "peak_distance": distance, "peak_gain": gain}
    return {name: interval(values, level, method="nearest") for name, values in drawn.items()}
