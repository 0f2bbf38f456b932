"""The bootstrap: one stream of draws, whatever is made of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llm_gym.statistics.resampling import (
    Bootstrap,
    bootstrap,
    bootstrap_interval,
    interval,
    resample,
    resample_weights,
    weights_of,
)


def rng():
    return np.random.default_rng(3)


def test_draws_do_not_depend_on_how_many_are_made_at_once():
    generator = rng()
    obvious = np.array([generator.integers(7, size=7) for _ in range(10)])
    for rows in (None, 1, 3, 10, 99):
        places = list(resample(7, 10, rng(), rows=rows))
        assert np.array_equal(np.concatenate(places), obvious)
    assert [len(chunk) for chunk in resample(7, 10, rng(), rows=4)] == [4, 4, 2]


def test_weights_count_what_was_drawn():
    assert weights_of(np.array([[2, 2, 0], [1, 0, 2]])).tolist() == [[1, 0, 2], [1, 1, 1]]
    [weights] = resample_weights(5, Bootstrap(resamples=40, seed=3))
    [places] = resample(5, 40, rng())
    assert weights.tolist() == [np.bincount(row, minlength=5).tolist() for row in places]


def test_an_estimate_of_sums_equals_the_bootstrap_of_the_statistic_itself():
    values = rng().normal(size=50)
    contributions = np.stack([values, np.ones(50)], axis=1)
    settings = Bootstrap(resamples=300, seed=5)
    estimate = settings.estimate(contributions, lambda sums: sums[..., 0] / sums[..., 1])
    expected = bootstrap([values], lambda drawn: drawn.mean(1), resamples=300, seed=5)
    assert (estimate.low, estimate.high) == pytest.approx(expected)
    assert (estimate.value, estimate.n) == (pytest.approx(values.mean()), 50)


def test_the_interval_of_a_mean_is_that_of_means_one_by_one():
    values, generator = rng().normal(size=33), np.random.default_rng(0)
    means = [values[generator.integers(33, size=33)].mean() for _ in range(2000)]
    assert bootstrap_interval(values) == tuple(np.quantile(means, [0.025, 0.975]))


def test_the_interval_of_known_data():
    low, high = bootstrap_interval(np.array([0.0, 1.0] * 200))
    half_width = 1.96 * 0.5 / math.sqrt(400)
    assert low == pytest.approx(0.5 - half_width, abs=0.006)
    assert high == pytest.approx(0.5 + half_width, abs=0.006)
    assert bootstrap_interval(np.array([3.0])) == (3.0, 3.0)


def test_an_interval_covers_the_mean_it_should():
    """Of 200 samples of a known mean, about 95 % of the intervals contain it."""
    samples = np.random.default_rng(1).normal(5.0, 2.0, size=(200, 40))
    intervals = [bootstrap_interval(sample, resamples=400) for sample in samples]
    assert 0.88 <= np.mean([low <= 5.0 <= high for low, high in intervals]) <= 0.99


def test_several_samples_are_resampled_each_by_itself_one_after_the_other():
    first, second = rng().normal(size=6), rng().normal(size=9) + 5
    generator = np.random.default_rng(2)
    drawn = [s[generator.integers(len(s), size=(100, len(s)))].mean(1) for s in (first, second)]
    ends = bootstrap([first, second], lambda a, b: b.mean(1) - a.mean(1), resamples=100, seed=2)
    assert ends == interval(drawn[1] - drawn[0], 0.95)


def test_resamples_without_a_value_are_left_out():
    values = np.array([math.nan, *range(101), math.nan])
    assert interval(values, 0.9) == pytest.approx((5, 95))
    assert np.isnan(interval(np.array([math.nan]), 0.9)).all()


def test_between_two_infinite_values_there_is_no_interpolation():
    values = np.array([1.0, 2.0, math.inf, math.inf])
    assert interval(values, 0.95, method="nearest") == (1.0, math.inf)


def test_a_bootstrap_of_nothing_is_refused():
    with pytest.raises(ValueError, match="empty sample"):
        bootstrap([[]], lambda drawn: drawn.mean(1))
