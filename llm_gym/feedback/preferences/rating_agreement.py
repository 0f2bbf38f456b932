"""How far raters agree who give numbers (stars, 1 to 25) instead of comparing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from llm_gym.statistics.resampling import DEFAULT, Bootstrap, Estimate, interval, resample_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LeaveOneOut", "leave_one_out_correlation"]


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
    others = is_rated.sum(axis=1, keepdims=True) - is_rated
    # Rounded, because equal means must be equal ranks whatever the order of summation.
    mean_of_others = np.round(
        (filled.sum(axis=1, keepdims=True) - filled) / np.maximum(others, 1), 9
    )
    scale = _ranks if method == "spearman" else _values
    pairs = [
        (
            scale(filled[:, rater]),
            scale(mean_of_others[:, rater]),
            is_rated[:, rater] & (others[:, rater] > 0),
        )
        for rater in range(table.shape[1])
    ]

    def correlations(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = [_correlation(own, rest, weights * both) for own, rest, both in pairs]
        return np.stack(columns, axis=1)  # (b, R)

    values = correlations(np.ones((1, len(table))))
    drawn = np.concatenate(
        [np.zeros((0, table.shape[1]))]
        + [correlations(weights) for weights in resample_weights(len(table), settings)]
    )
    each = tuple(
        Estimate(float(value), *interval(drawn[:, rater], settings.level), int(both.sum()))
        for rater, (value, (_, _, both)) in enumerate(zip(values[0], pairs, strict=True))
    )
    bounds = interval(drawn.mean(axis=1), settings.level)
    return LeaveOneOut(Estimate(float(values.mean()), *bounds, len(table)), each)


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
