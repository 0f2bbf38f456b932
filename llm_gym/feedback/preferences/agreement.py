"""How far raters agree: with each other, with the majority, and where they give numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from llm_gym.feedback.preferences.coefficients import (
    MISSING,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    majority_agreement,
    raw_agreement,
)
from llm_gym.feedback.preferences.records import Choice, Vote
from llm_gym.statistics.resampling import DEFAULT, Bootstrap, Estimate, interval, resample_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

CATEGORIES = (Choice.FIRST, Choice.SECOND, Choice.TIE)


@dataclass(frozen=True)
class RaterAgreement:
    """Agreement between the raters of a store.

    Attributes:
        raters: Their names.
        comparisons: Comparisons with a verdict.
        shared: Those with at least two, on which everything here rests.
        raw: Share of pairs of verdicts on the same comparison that are the same.
        alpha: Krippendorff's alpha.
        cohen: Cohen's kappa; None unless there are two raters.
        fleiss: Fleiss' kappa; None unless all shared comparisons have equally many verdicts.
        majority: How often a rater says what most of the others say.
        by_rater: The same for each rater.
    """

    raters: tuple[str, ...]
    comparisons: int
    shared: int
    raw: Estimate
    alpha: Estimate
    cohen: Estimate | None
    fleiss: Estimate | None
    majority: Estimate
    by_rater: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; undefined figures are None."""
        figures: dict[str, Estimate | None] = {
            name: getattr(self, name) for name in ("raw", "alpha", "cohen", "fleiss", "majority")
        }
        return {
            "raters": list(self.raters),
            "comparisons": self.comparisons,
            "shared": self.shared,
            **{name: figure and figure.to_dict() for name, figure in figures.items()},
            "by_rater": {name: share.to_dict() for name, share in self.by_rater.items()},
        }


def rater_agreement(
    votes: Iterable[Vote], *, ties: bool = True, bootstrap: Bootstrap = DEFAULT
) -> RaterAgreement:
    """Measures agreement between raters in every usual way.

    "First" and "second" are exchangeable names (see `coefficients`), so chance agreement does not
    depend on how the answers happen to be stored.

    Args:
        votes: At most one of each rater on each comparison; skips do not count.
        ties: Whether "equally good" is a verdict of its own, or is left out.
        bootstrap: Settings of the intervals.

    Returns:
        The figures; NaN where the votes do not define one.
    """
    table, comparisons, raters = vote_table(votes, ties=ties)
    verdicts = (table != MISSING).sum(axis=1)
    shared = table[verdicts >= 2]
    depths = set(verdicts[verdicts >= 2].tolist())
    majority, by_rater = majority_agreement(shared, level=bootstrap.level)
    common: Any = {"exchangeable": True, "bootstrap": bootstrap}
    return RaterAgreement(
        raters=tuple(raters),
        comparisons=len(comparisons),
        shared=len(shared),
        raw=raw_agreement(shared, level=bootstrap.level),
        alpha=krippendorff_alpha(shared, **common),
        cohen=cohen_kappa(shared, **common) if len(raters) == 2 else None,
        fleiss=fleiss_kappa(shared, **common) if len(depths) == 1 else None,
        majority=majority,
        by_rater=dict(zip(raters, by_rater, strict=True)),
    )


def vote_table(
    votes: Iterable[Vote], *, ties: bool = True
) -> tuple[NDArray[np.int64], list[int], list[str]]:
    """Votes as a table of categories.

    Args:
        votes: At most one of each rater on each comparison; skips are missing.
        ties: Whether "equally good" is a verdict of its own, or missing too.

    Returns:
        The table, int64 `(N, R)` with places of `CATEGORIES`; the numbers of the N comparisons; the
        names of the R raters, in the order of the alphabet.
    """
    counted = [
        vote
        for vote in votes
        if vote.choice is not Choice.SKIP and (ties or vote.choice is not Choice.TIE)
    ]
    comparisons = sorted({vote.comparison_id for vote in counted})
    raters = sorted({vote.rater for vote in counted})
    row = {number: index for index, number in enumerate(comparisons)}
    column = {rater: index for index, rater in enumerate(raters)}
    table = np.full((len(comparisons), len(raters)), MISSING)
    for vote in counted:
        table[row[vote.comparison_id], column[vote.rater]] = CATEGORIES.index(vote.choice)
    return table, comparisons, raters


# ------------------------------------------------------------------ raters who give numbers


class LeaveOneOut(NamedTuple):
    """Each rater against the mean of the others.

    Attributes:
        mean: Mean over the raters of their correlations; what a model is held against.
        by_rater: Each rater's correlation.
    """

    mean: Estimate
    by_rater: tuple[Estimate, ...]


def leave_one_out_correlation(
    ratings: Any,
    *,
    method: Literal["spearman", "pearson"] = "spearman",
    bootstrap: Bootstrap = DEFAULT,
) -> LeaveOneOut:
    """Correlates each rater with the mean of the others on the same items.

    Args:
        ratings: float `(N, R)`, NaN where a rater gave none. An item counts for a rater who rated
            it together with at least one other.
        method: "spearman" (of the ranks, equal ratings sharing their mean rank) or "pearson".
        bootstrap: Settings of the interval; items are resampled, ranks included.

    Returns:
        The correlations; NaN for a rater without two different ratings, and then for the mean too.

    Raises:
        ValueError: Not a table of at least two raters, infinite ratings, or another method.
    """
    table = _checked(ratings)
    if method not in ("spearman", "pearson"):
        raise ValueError(f"method must be 'spearman' or 'pearson', got {method!r}")
    settings = bootstrap.checked()
    is_rated = ~np.isnan(table)
    filled = np.where(is_rated, table, 0.0)
    raters_besides = is_rated.sum(axis=1, keepdims=True) - is_rated
    # Rounded, because equal means must be equal ranks whatever the order of summation.
    mean_of_others = np.round(
        (filled.sum(axis=1, keepdims=True) - filled) / np.maximum(raters_besides, 1), 9
    )
    scale = _ranks if method == "spearman" else _values
    pairs = [
        (
            scale(filled[:, rater]),
            scale(mean_of_others[:, rater]),
            is_rated[:, rater] & (raters_besides[:, rater] > 0),
        )
        for rater in range(table.shape[1])
    ]

    def correlations(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = [
            _correlation(ratings_of_one, rest, weights * both)
            for ratings_of_one, rest, both in pairs
        ]
        return np.stack(columns, axis=1)  # (b, R)

    values = correlations(np.ones((1, len(table))))
    drawn = np.concatenate(
        [np.zeros((0, table.shape[1]))]
        + [correlations(weights) for weights in resample_weights(len(table), settings)]
    )
    by_rater = tuple(
        Estimate(float(value), *interval(drawn[:, rater], settings.level), int(both.sum()))
        for rater, (value, (_, _, both)) in enumerate(zip(values[0], pairs, strict=True))
    )
    bounds = interval(drawn.mean(axis=1), settings.level)
    return LeaveOneOut(Estimate(float(values.mean()), *bounds, len(table)), by_rater)


def _checked(ratings: Any) -> NDArray[np.float64]:
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2 or not len(table) or table.shape[1] < 2:
        raise ValueError(
            f"ratings must have the shape (items, raters) with at least 2 raters, got {table.shape}"
        )
    if np.isinf(table).any():
        raise ValueError("ratings must be finite, or NaN where there is none; got infinity")
    return table


Scale = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]


def _values(values: NDArray[np.float64]) -> Scale:
    """The values themselves, whatever the weights."""
    return lambda weights: np.broadcast_to(values, weights.shape)


def _ranks(values: NDArray[np.float64]) -> Scale:
    """Mean ranks of the values in a resample given by weights `(b, N)`; sorts only once."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan))
    group = np.empty(len(values), dtype=np.int64)
    group[order] = np.cumsum(np.isin(np.arange(len(values)), starts)) - 1

    def ranks(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        sizes = np.add.reduceat(weights[:, order], starts, axis=1)  # (b, groups of equal values)
        middle = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
        return middle[:, group]

    return ranks


def _correlation(first: Scale, second: Scale, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation of weighted pairs, float `(b,)`; NaN where one does not vary."""
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1)

    def centred(scale: Scale) -> NDArray[np.float64]:
        values = scale(weights)
        return values - (weights * values).sum(axis=1, keepdims=True) / total

    x, y = centred(first), centred(second)
    spread = np.sqrt((weights * x * x).sum(axis=1) * (weights * y * y).sum(axis=1))
    varies = spread > 1e-9
    return np.where(varies, (weights * x * y).sum(axis=1) / np.where(varies, spread, 1), np.nan)
