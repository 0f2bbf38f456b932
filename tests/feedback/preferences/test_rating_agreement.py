"""Agreement between raters who give numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llm_gym.feedback.preferences import leave_one_out_correlation
from llm_gym.statistics.resampling import Bootstrap

NONE = math.nan


def correlation(x, y) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def mean_ranks(values) -> list[float]:
    """Ranks by counting: those below, and half of the others that are equal."""
    return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]


def test_pearson_by_hand():
    """Others of the first: 2, 3, 7; of the second: 1.5, 4, 5; of the third: 1.5, 2, 6."""
    ratings = [[1, 2, 2], [3, 1, 5], [4, 8, 6]]
    found = leave_one_out_correlation(ratings, method="pearson")
    expected = [
        correlation([1, 3, 4], [2, 3, 7]),
        correlation([2, 1, 8], [1.5, 4, 5]),
        correlation([2, 5, 6], [1.5, 2, 6]),
    ]
    assert [estimate.value for estimate in found.by_rater] == pytest.approx(expected)
    assert found.mean.value == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_five_raters_against_the_obvious_computation(method):
    rng = np.random.default_rng(0)
    quality = rng.normal(size=60)
    ratings = np.round(quality[:, None] + rng.normal(size=(60, 5)))  # many equal ratings
    ratings[rng.random(ratings.shape) < 0.2] = np.nan
    found = leave_one_out_correlation(ratings, method=method)
    for rater in range(5):
        rows = [
            (row[rater], np.nanmean(np.delete(row, rater)))
            for row in ratings
            if not np.isnan(row[rater]) and not np.isnan(np.delete(row, rater)).all()
        ]
        own, rest = zip(*rows, strict=True)
        rest = np.round(rest, 9)
        if method == "spearman":
            own, rest = mean_ranks(own), mean_ranks(rest)
        assert found.by_rater[rater].value == pytest.approx(correlation(own, rest), abs=1e-9)
        assert found.by_rater[rater].n == len(rows)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_resamples_by_weights_are_resamples_by_rows(method, monkeypatch):
    """Ranks of a weighted resample equal those of the rows written out."""
    from llm_gym.feedback.preferences import rating_agreement

    rng = np.random.default_rng(3)
    ratings = rng.integers(1, 6, size=(25, 3)).astype(float)
    drawn = rng.integers(25, size=(2, 25))
    weights = np.stack([np.bincount(row, minlength=25) for row in drawn]).astype(float)
    monkeypatch.setattr(rating_agreement, "resample_weights", lambda *_: iter([weights]))
    seen = []
    monkeypatch.setattr(
        rating_agreement, "interval", lambda values, _: (seen.append(values), (0.0, 0.0))[1]
    )
    leave_one_out_correlation(ratings, method=method)
    direct = [
        [
            estimate.value
            for estimate in leave_one_out_correlation(
                ratings[row], method=method, bootstrap=Bootstrap(resamples=0)
            ).by_rater
        ]
        for row in drawn
    ]
    assert np.stack(seen[:3], axis=1)[-2:] == pytest.approx(np.array(direct))


def test_the_interval_covers_a_known_correlation():
    """Two raters with quality and noise of equal size correlate at 1/2."""
    rng = np.random.default_rng(4)
    quality = rng.normal(size=(3000, 1))
    ratings = quality + rng.normal(size=(3000, 2))
    for method, truth in (("pearson", 0.5), ("spearman", 6 / math.pi * math.asin(0.25))):
        found = leave_one_out_correlation(ratings, method=method).mean
        assert found.low < truth < found.high
        assert 0.03 < found.high - found.low < 0.08  # 2 * 1.96 * (1 - 0.25) / sqrt(3000) = 0.054


def test_a_rater_who_always_says_the_same_has_no_correlation():
    found = leave_one_out_correlation([[3, 1, 2], [3, 2, 3], [3, 4, 4], [3, 5, 6]])
    assert math.isnan(found.by_rater[0].value)
    assert found.by_rater[1].value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("ratings", "problem"),
    [
        ([1.0, 2.0], "shape"),
        ([[1.0], [2.0]], "at least 2 raters"),
        (np.zeros((0, 3)), "shape"),
        ([[1.0, math.inf]], "must be finite"),
    ],
)
def test_what_is_no_table_of_ratings_is_refused(ratings, problem):
    with pytest.raises(ValueError, match=problem):
        leave_one_out_correlation(ratings)


def test_other_methods_are_refused():
    with pytest.raises(ValueError, match="method must be 'spearman' or 'pearson', got 'kendall'"):
        leave_one_out_correlation([[1.0, 2.0]], method="kendall")
