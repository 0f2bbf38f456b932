"""Coefficients of agreement between raters.

Ratings are a table of categories, int `(N, R)`: N units, R raters, `MISSING` where a rater gave no
verdict. Every figure comes with an interval over units: of shares Wilson's, else by the bootstrap.

"First" and "second" are names that a comparison got by chance: had the answers been stored the
other way round, the same votes would bear the other names. What agreement is to be expected by
chance must not depend on that (of an imported file, where the preferred answer is always the first,
it would be 100 %). With `exchangeable=True` every unit therefore counts in both orders, half each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.statistics.resampling import DEFAULT, Bootstrap, Estimate
from llm_gym.statistics.shares import estimate_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISSING = -1
_MIRRORED = [1, 0]  # what the first two categories become when the answers change places


def raw_agreement(table: Any, *, level: float = 0.95) -> Estimate:
    """The share of pairs of verdicts on the same unit that are the same.

    Args:
        table: int `(N, R)`, `MISSING` where there is no verdict.
        level: Probability that the interval shall cover.

    Returns:
        The share; NaN if no unit has two verdicts.
    """
    counts = _pairable(_counts(_checked(table)))
    total = counts.sum(axis=1)
    same = (counts * (counts - 1)).sum(axis=1)
    return estimate_share(same, total * (total - 1), level=level)


def cohen_kappa(
    table: Any,
    *,
    exchangeable: bool = False,
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Agreement of two raters beyond chance (Cohen 1960, doi:10.1177/001316446002000104).

    `(p_o - p_e) / (1 - p_e)`, with `p_e` from each rater's own shares of the categories.

    Args:
        table: int `(N, 2)`; units that one of them did not judge are left out.
        exchangeable: See the module.
        bootstrap: Settings of the interval.

    Returns:
        Kappa: 1 for full agreement, 0 for that of chance; NaN if both always gave one and the same
        verdict, when nothing can be said.

    Raises:
        ValueError: Not two raters.
    """
    ratings = _checked(table)
    if ratings.shape[1] != 2:
        raise ValueError(
            f"Cohen's kappa compares two raters, table has {ratings.shape[1]}; for more take "
            "krippendorff_alpha"
        )
    ratings = ratings[(ratings != MISSING).all(axis=1)]
    width = _width(ratings)
    one_hot = np.eye(width)[ratings]  # (N, 2, C)
    confusion = one_hot[:, 0, :, None] * one_hot[:, 1, None, :]  # (N, C, C)
    if exchangeable:
        turned = _turned(width)
        confusion = (confusion + confusion[:, turned][:, :, turned]) / 2

    def kappa(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        square = sums.reshape(*sums.shape[:-1], width, width)
        square = square / square.sum(axis=(-2, -1), keepdims=True)
        observed = np.trace(square, axis1=-2, axis2=-1)
        expected = (square.sum(axis=-1) * square.sum(axis=-2)).sum(axis=-1)
        return _beyond_chance(observed, expected)

    return bootstrap.checked().estimate(confusion.reshape(len(ratings), width**2), kappa)


def fleiss_kappa(
    table: Any,
    *,
    exchangeable: bool = False,
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Agreement of several raters beyond chance (Fleiss 1971, doi:10.1037/h0031619).

    Args:
        table: int `(N, R)`; every unit must have the same number of verdicts, at least 2.
        exchangeable: See the module.
        bootstrap: Settings of the interval.

    Returns:
        Kappa; NaN if all verdicts are the same.

    Raises:
        ValueError: Units differ in their number of verdicts.
    """
    counts = _counts(_checked(table))
    per_unit = counts.sum(axis=1)
    if len(counts) and (per_unit.min() != per_unit.max() or per_unit[0] < 2):
        raise ValueError(
            f"Fleiss' kappa needs the same number of verdicts, at least 2, on every unit; table "
            f"has {per_unit.min():.0f} to {per_unit.max():.0f}; take krippendorff_alpha"
        )
    raters = per_unit[0] if len(counts) else 2
    same = (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))
    if exchangeable:
        counts = (counts + counts[:, _turned(counts.shape[1])]) / 2

    def kappa(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        verdicts = sums[..., 1:].sum(axis=-1)
        observed = sums[..., 0] / (verdicts / raters)
        expected = ((sums[..., 1:] / verdicts[..., None]) ** 2).sum(axis=-1)
        return _beyond_chance(observed, expected)

    return bootstrap.checked().estimate(np.column_stack([same, counts]), kappa)


def krippendorff_alpha(
    table: Any,
    *,
    exchangeable: bool = False,
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Krippendorff's alpha for categories: any number of raters, verdicts may be missing.

    `1 - D_o / D_e`: observed disagreement within units over that among all verdicts that can be
    paired (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011, section C and D:
    https://repository.upenn.edu/asc_papers/43).

    Args:
        table: int `(N, R)`, `MISSING` where there is no verdict. Units with one verdict are left
            out.
        exchangeable: See the module.
        bootstrap: Settings of the interval.

    Returns:
        Alpha: 1 for full agreement, 0 for that of chance; NaN if all verdicts are the same.
    """
    counts = _pairable(_counts(_checked(table)))
    total = counts.sum(axis=1)
    disagreement = (counts * (total[:, None] - counts)).sum(axis=1) / (total - 1)
    if exchangeable:
        counts = (counts + counts[:, _turned(counts.shape[1])]) / 2

    def alpha(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        verdicts = sums[..., 1:].sum(axis=-1)
        unlike = verdicts**2 - (sums[..., 1:] ** 2).sum(axis=-1)
        return np.where(unlike > 0, 1 - (verdicts - 1) * sums[..., 0] / unlike, np.nan)

    return bootstrap.checked().estimate(np.column_stack([disagreement, counts]), alpha)


def majority_agreement(table: Any, *, level: float = 0.95) -> tuple[Estimate, tuple[Estimate, ...]]:
    """How often a rater says what most of the others say: each rater is left out once.

    Where the others are divided evenly between k verdicts, one of which is the rater's, that counts
    1/k: what picking one of them at random would give. Leaving such units out would keep the easy
    ones. It is the line that a model which predicts the majority should be held against.

    Args:
        table: int `(N, R)`, `MISSING` where there is no verdict; needs no full rows.
        level: Probability that the intervals shall cover.

    Returns:
        The share over all verdicts that have another beside them, and each rater's own.
    """
    ratings = _checked(table)
    number, raters = ratings.shape
    credit, counted = np.zeros((number, raters)), np.zeros((number, raters))
    counts = _counts(ratings)
    units = np.arange(number)
    for rater in range(raters):
        has_verdict = ratings[:, rater] != MISSING
        verdict = np.where(has_verdict, ratings[:, rater], 0)
        rest = counts.copy()
        rest[units, verdict] -= has_verdict
        most = rest.max(axis=1, initial=0)
        is_counted = has_verdict & (most > 0)
        leaders = np.maximum(1, (rest == most[:, None]).sum(axis=1))
        agrees = is_counted & (rest[units, verdict] == most)
        credit[:, rater], counted[:, rater] = agrees / leaders, is_counted

    def share(agreed: NDArray[np.float64], judged: NDArray[np.float64]) -> Estimate:
        return estimate_share(agreed[judged > 0], judged[judged > 0], level=level)

    by_rater = tuple(share(credit[:, rater], counted[:, rater]) for rater in range(raters))
    return share(credit.sum(axis=1), counted.sum(axis=1)), by_rater


def _checked(table: Any) -> NDArray[np.int64]:
    ratings = np.asarray(table)
    if ratings.ndim != 2 or not np.issubdtype(ratings.dtype, np.integer):
        raise ValueError(
            f"table must hold whole numbers in the shape (units, raters), got {ratings.dtype} "
            f"{ratings.shape}"
        )
    if ratings.size and ratings.min() < MISSING:
        raise ValueError(f"table must hold categories from 0 on or {MISSING}, got {ratings.min()}")
    return ratings.astype(np.int64)


def _width(ratings: NDArray[np.int64]) -> int:
    return max(len(_MIRRORED), int(ratings.max(initial=0)) + 1)


def _counts(ratings: NDArray[np.int64]) -> NDArray[np.float64]:
    """Verdicts of each category on each unit, float `(N, C)`."""
    width = _width(ratings)
    return np.stack(
        [(ratings == category).sum(axis=1) for category in range(width)], axis=1
    ).astype(float)


def _pairable(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts[counts.sum(axis=1) >= 2]


def _turned(width: int) -> list[int]:
    return [*_MIRRORED, *range(len(_MIRRORED), width)]


def _beyond_chance(
    observed: NDArray[np.float64], expected: NDArray[np.float64]
) -> NDArray[np.float64]:
    # One category only: the rounding of `expected` must not decide between NaN and infinity.
    defined = 1 - expected > 1e-12
    return np.where(defined, (observed - expected) / np.where(defined, 1 - expected, 1), np.nan)
