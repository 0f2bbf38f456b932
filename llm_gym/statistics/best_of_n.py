"""Best-of-n: exactly where all answers can be listed, without bias from samples elsewhere.

Best-of-n draws n answers and keeps the one that a score likes best. Equal scores are tied, and a
tie is broken by chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llm_gym.statistics.resampling import interval, resample

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BestOfN:
    """The distribution of best-of-n over a finite set of answers.

    Attributes:
        n: Answers drawn.
        probabilities: float64 `(Y,)`, the probability that best-of-n returns each answer.
        kl: Exact divergence from the distribution that the answers are drawn from, in nats.
        win_rate: Probability that its score beats that of one fresh answer, a tie counting half.
    """

    n: float
    probabilities: Floats
    kl: float
    win_rate: float

    def expectation(self, values: ArrayLike) -> float:
        """Expected value of any quantity, for example of a gold score.

        Args:
            values: `(Y,)`, the quantity of each answer.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.shape != self.probabilities.shape:
            raise ValueError(
                f"values has shape {values.shape}, but there are {len(self.probabilities)} answers"
            )
        return float(self.probabilities @ values)


def best_of_n(
    probabilities: ArrayLike, scores: ArrayLike, n: float | Sequence[float]
) -> list[BestOfN]:
    """Best-of-n computed exactly, for one n or many.

    With F(s) the probability of a score of at most s, the best of n scores is at most s with
    probability F(s)^n. All answers of one score share its probability in their own proportion.
    This holds for ties too, where the sum over answers of Beirami et al. (2401.01879, lemma 1)
    becomes one over distinct scores.

    Args:
        probabilities: `(Y,)`, non-negative with sum 1: how likely each answer is.
        scores: `(Y,)`, what best-of-n maximises, usually a proxy.
        n: 1 or more, one or several. It need not be whole: F^n is a distribution for every n >= 1,
            which is useful for a smooth curve.

    Returns:
        One result for each n, in order.

    Raises:
        ValueError: Shapes differ, something is not finite, probabilities do not sum to 1, or n < 1.
    """
    p, s = _distribution(probabilities, scores)
    ns = _checked_ns(np.atleast_1d(np.asarray(n, dtype=np.float64)))
    support = np.flatnonzero(p > 0)
    _, group = np.unique(s[support], return_inverse=True)
    mass = np.bincount(group, weights=p[support])  # (G,), by ascending score
    # Tails are summed from the top, where a large n needs them precise: log F = log(1 - tail).
    above = np.append(np.cumsum(mass[::-1])[::-1][1:], 0.0)
    log_cdf = np.log1p(-np.minimum(above, 1.0 - mass))
    below = np.concatenate([[0.0], np.exp(log_cdf[:-1])])
    with np.errstate(divide="ignore"):
        log_step = np.log1p(-np.minimum(mass / np.exp(log_cdf), 1.0))  # log F(below) - log F
    results = []
    for count in ns.tolist():
        log_tilted = count * log_cdf + np.log(-np.expm1(count * log_step))  # (G,)
        tilted = np.exp(log_tilted)
        tilted /= tilted.sum()  # rounding only
        full = np.zeros_like(p)
        full[support] = p[support] * (tilted / mass)[group]
        kl = float(tilted @ (log_tilted - np.log(mass))) if count > 1 else 0.0
        wins = float(tilted @ (below + mass / 2))
        results.append(BestOfN(count, full, max(kl, 0.0), wins))
    return results


def kl_bound(n: ArrayLike) -> Floats:
    """Upper bound log n - (n - 1)/n of best-of-n's divergence, in nats.

    It is often quoted as the divergence itself. Beirami et al. (2401.01879) show that it is a
    bound: near the truth where no score has a probability that matters beside 1/n, and far above it
    where n approaches the inverse probability of the best score, because the divergence can never
    exceed minus the log of that probability. `best_of_n` gives the exact value.

    Args:
        n: 1 or more, any shape.
    """
    n = _checked_ns(np.asarray(n, dtype=np.float64))
    return np.log(n) - (n - 1) / n


@dataclass(frozen=True, eq=False)
class BestOfNEstimate:
    """Best-of-n estimated from samples; every array has one entry for each n.

    Attributes:
        n: int64 `(K,)`.
        mean: By the name of a quantity, float64 `(K,)`, averaged over prompts.
        low: Lower ends of the bootstrap intervals over prompts, shaped alike.
        high: Upper ends.
    """

    n: NDArray[np.int64]
    mean: Mapping[str, Floats]
    low: Mapping[str, Floats]
    high: Mapping[str, Floats]


def estimate_best_of_n(
    scores: ArrayLike,
    values: Mapping[str, ArrayLike],
    n: Sequence[int],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> BestOfNEstimate:
    """Expected quantities under best-of-n from N >= n samples a prompt, for many n at once.

    Instead of one random group of n, all groups of n out of N are averaged: the sample of rank i
    (from the bottom) is the best of C(i-1, n-1) of the C(N, n) groups. This is without bias and has
    the least variance among such estimates (Nakano et al., 2112.09332, appendix I). Tied samples
    count with the mean of their values, the expectation over a tie broken by chance.

    Args:
        scores: `(P, N)`: N samples of each of P prompts, what best-of-n maximises.
        values: Quantities by name, `(P, N)` each; `"score"` is taken by the scores themselves.
        n: Whole numbers from 1 to N.
        level: Probability that an interval shall cover.
        resamples: Bootstrap resamples of prompts.
        seed: Seed of the resampling.

    Returns:
        Estimates with intervals. Their spread is that between prompts, so a single prompt gives
        intervals of no width.

    Raises:
        ValueError: Shapes differ, something is not finite, or an n is outside 1..N.
    """
    matrix = _finite("scores", scores)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"scores must have shape (prompts, samples), got {matrix.shape}")
    if "score" in values:
        raise ValueError('values has the key "score", which the scores themselves take; rename it')
    quantities = {"score": matrix}
    for name, quantity in values.items():
        quantities[name] = _finite(f"values[{name!r}]", quantity)
        if quantities[name].shape != matrix.shape:
            raise ValueError(
                f"values[{name!r}] has shape {quantities[name].shape}, scores {matrix.shape}"
            )
    counts = np.asarray(n, dtype=np.int64)
    if counts.ndim != 1 or not counts.size or not np.array_equal(counts, np.asarray(n)):
        raise ValueError(f"n={n!r} must be a list of whole numbers")
    if counts.min() < 1 or counts.max() > matrix.shape[1]:
        raise ValueError(
            f"n={list(n)} must lie between 1 and the {matrix.shape[1]} samples a prompt has"
        )
    weights = np.stack([_rank_weights(matrix.shape[1], int(count)) for count in counts])  # (K, N)
    places = list(resample(len(matrix), resamples, np.random.default_rng(seed)))
    mean, low, high = {}, {}, {}
    for name, quantity in quantities.items():
        by_prompt = np.stack(
            [weights @ _by_rank(row, of) for row, of in zip(matrix, quantity, strict=True)]
        )  # (P, K)
        resampled = np.concatenate([by_prompt[drawn].mean(1) for drawn in places])  # (resamples, K)
        mean[name] = by_prompt.mean(0)
        low[name], high[name] = np.array([interval(column, level) for column in resampled.T]).T
    return BestOfNEstimate(counts, mean, low, high)


def _rank_weights(total: int, n: int) -> Floats:
    """C(i-1, n-1) / C(total, n) for i = 1..total, by a product that never overflows."""
    rank = np.arange(total - 1, n - 1, -1)
    falling = np.cumprod(np.concatenate([[n / total], (rank - n + 1) / rank]))
    return np.concatenate([np.zeros(n - 1), falling[::-1]])


def _by_rank(scores: Floats, values: Floats) -> Floats:
    """Values in ascending order of their scores; those of equal scores replaced by their mean."""
    _, group = np.unique(scores, return_inverse=True)
    means = np.bincount(group, weights=values) / np.bincount(group)
    return means[np.sort(group)]


def _distribution(probabilities: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    p, s = _finite("probabilities", probabilities), _finite("scores", scores)
    if p.ndim != 1 or p.shape != s.shape or not p.size:
        raise ValueError(
            f"probabilities and scores must be of one length, got shapes {p.shape} and {s.shape}"
        )
    if p.min() < 0 or not math.isclose(p.sum(), 1.0, rel_tol=1e-6):
        raise ValueError(
            f"probabilities must be non-negative with sum 1, got a least of {p.min():.3g} and a "
            f"sum of {p.sum():.9g}"
        )
    return p / p.sum(), s


def _finite(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinity")
    return array


def _checked_ns(n: Floats) -> Floats:
    if not (np.isfinite(n).all() and (n >= 1).all()):
        raise ValueError(f"n={n.tolist()} must be 1 or more, and finite")
    return n
