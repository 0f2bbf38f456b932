"""How good a reward model is: accuracy, calibration, ranks. Pure functions of its rewards.

`differences` are always the reward of the chosen answer less that of the rejected one, so a model
is right where they are positive, and its own probability of that is `sigma(|difference|)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llm_gym.feedback.preferences import Preference
from llm_gym.statistics.resampling import DEFAULT, Bootstrap, Estimate, interval, resample
from llm_gym.statistics.shares import estimate_share

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Bin(NamedTuple):
    """Comparisons with something in common.

    Attributes:
        low: Lower end of the bin.
        high: Upper end; belongs to the last bin only.
        n: Comparisons in it, at least 1.
        expected: Mean of the model's own probability of being right.
        accuracy: Share that the model has right; equal rewards count one half.
    """

    low: float
    high: float
    n: int
    expected: float
    accuracy: float


def accuracy(differences: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Share of comparisons in which the chosen answer has the higher reward.

    Args:
        differences: float `(N,)`; 0 counts one half.
        level: Probability that the interval shall cover.

    Returns:
        The share; NaN without comparisons.
    """
    return estimate_share(_is_right(_checked(differences)), level=level)


def accuracy_gain(
    first: ArrayLike, second: ArrayLike, *, bootstrap: Bootstrap = DEFAULT
) -> Estimate:
    """How much more often one model is right than another, on the same comparisons.

    Args:
        first: float `(N,)`, differences of one model.
        second: float `(N,)`, of the other.
        bootstrap: Settings of the interval; comparisons are resampled, both models' together.

    Returns:
        Difference of the two shares; NaN without comparisons.
    """
    gains = _is_right(_checked(first)) - _is_right(_checked(second))
    units = np.stack([gains, np.ones(len(gains))], axis=1)
    return bootstrap.checked().estimate(units, lambda sums: sums[..., 0] / sums[..., 1])


def log_loss(differences: ArrayLike, *, temperature: float = 1.0) -> float:
    """Mean of `-log sigma(difference / temperature)`, in nats; log 2 for a model without a clue."""
    return float(np.mean(np.logaddexp(0.0, -_checked(differences) / temperature)))


def accuracy_by_margin(differences: ArrayLike, margins: ArrayLike, bins: int = 5) -> list[Bin]:
    """Accuracy on comparisons that people found hard and easy.

    Args:
        differences: float `(N,)`.
        margins: float `(N,)`: how clear the comparison was, by votes or by ratings.
        bins: At most so many: one for each margin if there are no more different ones, else with
            about as many comparisons in each, equal margins together.

    Returns:
        The bins that are not empty, from the hardest.

    Raises:
        ValueError: Lengths that differ, no comparisons, or fewer than 1 bin.
    """
    values, margin = _checked(differences), _checked(margins, "margins")
    if len(values) != len(margin) or not len(values) or bins < 1:
        raise ValueError(
            f"need as many margins as differences, at least 1, and at least 1 bin; got "
            f"{len(margin)}, {len(values)} and bins={bins}"
        )
    different = np.unique(margin)
    if len(different) <= bins:
        return _binned(values, np.searchsorted(different, margin), different, different)
    edges = np.unique(np.quantile(margin, np.linspace(0, 1, bins + 1)))
    return _binned(values, _places(margin, edges), edges[:-1], edges[1:])


def reliability(differences: ArrayLike, bins: int = 10) -> list[Bin]:
    """Accuracy against the model's own probability of being right: a calibration curve.

    The probability is that of the answer the model prefers, so it is between 0.5 and 1.

    Args:
        differences: float `(N,)`.
        bins: Bins of equal width, from 0.5 to 1.

    Returns:
        The bins that are not empty; `low` and `high` are probabilities.

    Raises:
        ValueError: Fewer than 1 bin.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    values = _checked(differences)
    edges = np.linspace(0.5, 1.0, bins + 1)
    return _binned(values, _places(_confidence(values), edges), edges[:-1], edges[1:])


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: mean of |accuracy - expected|, weighted by n.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 5.

    Args:
        bins: From `reliability`, at least one.
    """
    total = sum(row.n for row in bins)
    return sum(row.n * abs(row.accuracy - row.expected) for row in bins) / total


def fit_temperature(differences: ArrayLike) -> float:
    """The temperature T for which `log_loss(differences, temperature=T)` is least.

    Above 1 the model is too sure of itself, below 1 not sure enough (Guo et al. 2017, section 4.2).
    Fit it on held-out comparisons; it changes no ranking.

    Args:
        differences: float `(N,)`, at least one.

    Returns:
        T; 0 if the model is right everywhere (any smaller T is better), infinity if it is no
        better than chance.

    Raises:
        ValueError: No differences.
    """
    values = _checked(differences)
    if not len(values):
        raise ValueError("differences is empty; there is nothing to fit a temperature to")
    if values.mean() <= 0:
        return math.inf
    if values.min() >= 0:
        return 0.0

    def slope(inverse: float) -> float:
        """Derivative of the loss by 1/T; it rises with 1/T."""
        return -float(np.mean(values * _sigmoid(-inverse * values)))

    low, high = 0.0, 1.0 / float(np.abs(values).max())
    while slope(high) < 0:
        low, high = high, 2 * high
    for _ in range(100):  # until the floats are neighbours
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / high


def spearman(first: ArrayLike, second: ArrayLike, *, bootstrap: Bootstrap = DEFAULT) -> Estimate:
    """Rank correlation; equal values share their mean rank.

    Args:
        first: float `(N,)`.
        second: float `(N,)`.
        bootstrap: Settings of the interval; items are resampled, ranks included.

    Returns:
        The correlation; NaN if one side has no two different values.

    Raises:
        ValueError: Lengths that differ.
    """
    sides = _checked(first, "first"), _checked(second, "second")
    if len(sides[0]) != len(sides[1]):
        raise ValueError(
            f"first and second must be of one length, got {len(sides[0])} and {len(sides[1])}"
        )
    settings = bootstrap.checked()
    rng = np.random.default_rng(settings.seed)
    # Values in a resample rank as their places among the different values do, which need no sorting
    places = [np.unique(values, return_inverse=True)[1] for values in sides]
    drawn = [
        _correlation(*(_ranks_of_places(side[rows]) for side in places))
        for chunk in resample(len(places[0]), settings.resamples, rng)
        for rows in chunk
    ]
    value = _correlation(*map(_ranks_of_places, places))
    return Estimate(value, *interval(np.array(drawn), settings.level), len(places[0]))


def spearman_gain(
    first: ArrayLike, second: ArrayLike, truth: ArrayLike, *, bootstrap: Bootstrap = DEFAULT
) -> Estimate:
    """By how much one model's rank correlation with the truth is higher than another's.

    Args:
        first: float `(N,)`.
        second: float `(N,)`.
        truth: float `(N,)`.
        bootstrap: Settings of the interval; items are resampled, for both models together.

    Returns:
        The difference; NaN if a correlation is not defined.
    """
    settings = bootstrap.checked()
    rng = np.random.default_rng(settings.seed)
    sides = (_checked(first, "first"), _checked(second, "second"), _checked(truth, "truth"))
    places = [np.unique(values, return_inverse=True)[1] for values in sides]

    def gain(rows: NDArray[np.int64] | slice) -> float:
        one, other, true = (_ranks_of_places(side[rows]) for side in places)
        return _correlation(one, true) - _correlation(other, true)

    chunks = resample(len(places[0]), settings.resamples, rng)
    drawn = [gain(rows) for chunk in chunks for rows in chunk]
    return Estimate(gain(slice(None)), *interval(np.array(drawn), settings.level), len(places[0]))


def evaluate_differences(
    differences: ArrayLike, preferences: Sequence[Preference], *, bins: int = 10
) -> dict[str, Any]:
    """Everything above on held-out comparisons, as JSON-able figures.

    Args:
        differences: float `(N,)`, at least one.
        preferences: The N rows they belong to. Where every row has the column `vote_margin` there
            is an accuracy by margin, and where rows name a `rater` the agreement with each.
        bins: Bins of the calibration curve.

    Returns:
        `comparisons`, `accuracy` (with `low` and `high`), `log_loss`, `calibration` (bins),
        `calibration_error`, `temperature` (None where it has no finite positive value),
        `accuracy_by_margin` and `agreement_by_rater`.
    """
    values = _checked(differences)
    curve = reliability(values, bins)
    temperature = fit_temperature(values)
    margins = [row.columns.get("vote_margin") for row in preferences]
    by_margin = None
    if all(isinstance(margin, (int, float)) for margin in margins):
        bins_of_margin = accuracy_by_margin(values, np.array(margins, dtype=np.float64))
        by_margin = [of_bin._asdict() for of_bin in bins_of_margin]
    raters: dict[str, list[float]] = {}
    for value, row in zip(values, preferences, strict=True):
        if isinstance(row.columns.get("rater"), str):
            raters.setdefault(row.columns["rater"], []).append(value)
    return {
        "comparisons": len(values),
        "accuracy": accuracy(values).to_dict(),
        "log_loss": log_loss(values),
        "calibration": [of_bin._asdict() for of_bin in curve],
        "calibration_error": calibration_error(curve),
        "temperature": temperature if 0 < temperature < math.inf else None,
        "accuracy_by_margin": by_margin,
        "agreement_by_rater": {
            name: accuracy(of_rater).to_dict() for name, of_rater in sorted(raters.items())
        },
    }


def evaluate_ratings(predicted: ArrayLike, ratings: ArrayLike) -> dict[str, Any]:
    """How well predictions follow ratings, as JSON-able figures.

    Args:
        predicted: float `(N,)`, in the units of the ratings.
        ratings: float `(N, R)`, NaN where a rater gave none; at least one in each row.

    Returns:
        `texts`, `spearman` with the mean rating (with `low` and `high`), `rmse` from it,
        `explained` (share of its variance; None if it has none), and `agreement_with_raters`:
        Spearman with each column by itself.
    """
    values, table = _checked(predicted, "predicted"), np.asarray(ratings, dtype=np.float64)
    means = np.nanmean(table, axis=1)
    squares = float(np.mean((values - means) ** 2))
    variance = float(means.var())
    columns = [(column, ~np.isnan(column)) for column in table.T]
    by_rater = [
        spearman(values[is_rated], column[is_rated])
        for column, is_rated in columns
        if is_rated.any()
    ]
    return {
        "texts": len(values),
        "spearman": spearman(values, means).to_dict(),
        "rmse": math.sqrt(squares),
        "explained": 1 - squares / variance if variance > 0 else None,
        "agreement_with_raters": [estimate.to_dict() for estimate in by_rater],
    }


def _checked(values: ArrayLike, name: str = "differences") -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers in one row, got shape {array.shape}")
    return array


def _is_right(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    return (np.sign(differences) + 1) / 2


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(values / 2))  # a form that does not overflow


def _confidence(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    return _sigmoid(np.abs(differences))


def _places(keys: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which bin each key is in; the last edge belongs to the last bin."""
    return np.clip(np.searchsorted(edges, keys, side="right") - 1, 0, len(edges) - 2)


def _binned(
    differences: NDArray[np.float64],
    places: NDArray[np.int64],
    lows: NDArray[np.float64],
    highs: NDArray[np.float64],
) -> list[Bin]:
    right, confidence = _is_right(differences), _confidence(differences)
    bins = []
    for place in np.unique(places):
        inside = places == place
        bins.append(
            Bin(
                low=float(lows[place]),
                high=float(highs[place]),
                n=int(inside.sum()),
                expected=float(confidence[inside].mean()),
                accuracy=float(right[inside].mean()),
            )
        )
    return bins


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    first, second = first - first.mean(), second - second.mean()
    spread = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / spread if spread > 0 else math.nan


def _ranks_of_places(places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean ranks of whole numbers from 0, by counting; numbers that do not occur do not matter."""
    sizes = np.bincount(places)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[places]
