"""Intervals of shares and of means over seeds: possible ones, whatever the figures are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gym.statistics.shares import (
    estimate_share,
    mean_over_seeds,
    share_interval,
    student_quantile,
)

SHARES = st.floats(0, 1)


@given(st.integers(1, 10**7), st.data(), st.floats(0.5, 0.999))
def test_an_interval_of_a_share_lies_in_0_to_1_around_it_and_has_a_width(trials, data, level):
    hits = data.draw(st.integers(0, trials))
    low, high = share_interval(hits / trials, trials, level=level)
    assert 0 <= low <= hits / trials <= high <= 1
    assert low < high


@given(st.lists(st.tuples(SHARES, st.floats(0.1, 50)), min_size=1, max_size=30))
def test_so_does_that_of_units_of_any_size(units):
    inside, sizes = (np.array(column) for column in zip(*units, strict=True))
    estimate = estimate_share(inside * sizes, sizes)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.low < estimate.high
    assert estimate.n == len(units)


@given(st.lists(SHARES, min_size=1, max_size=12))
def test_so_does_that_of_shares_over_seeds_if_there_are_three(values):
    estimate = mean_over_seeds(values, is_share=True)
    assert math.isnan(estimate.low) == math.isnan(estimate.high) == (len(values) < 3)
    if len(values) >= 3:
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low < estimate.high


def test_known_values():
    """Newcombe 1998, Statistics in Medicine 17(8), p. 857, table I, method 3."""
    for hits, trials, expected in (
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ):
        assert share_interval(hits / trials, trials) == pytest.approx(expected, abs=5e-5)
    quantiles = [student_quantile(degrees) for degrees in (1, 2, 5, 30, 1000)]
    assert quantiles == pytest.approx([12.7062, 4.3027, 2.5706, 2.0423, 1.9623], rel=1e-4)


def test_intervals_cover_the_share_they_should():
    rng = np.random.default_rng(0)
    for share, trials in ((0.5, 12), (0.9, 40), (0.97, 30)):
        hits = rng.binomial(trials, share, size=2000)
        ends = [share_interval(count / trials, trials) for count in hits]
        assert 0.92 <= np.mean([low <= share <= high for low, high in ends]) <= 0.99


def test_what_is_inside_a_unit_counts_as_one_trial():
    """Ten pairs of votes of one comparison are no ten comparisons."""
    assert estimate_share([10.0, 0, 10], [10.0, 10, 10]) == estimate_share([1.0, 0, 1])
    uneven = estimate_share([0.0, 10], [1.0, 10])
    assert uneven.value == pytest.approx(10 / 11)
    assert (uneven.low, uneven.high) == share_interval(uneven.value, 121 / 101)


def test_seeds_that_vary_as_trials_do_have_the_interval_of_the_trials():
    """20 seeds of 50 trials each are 1000 trials."""
    counts = np.random.default_rng(1).binomial(50, 0.7, size=4000).reshape(200, 20)
    widths = [
        np.diff(share_interval(row.mean() / 50, 1000))[0]
        / np.subtract(*mean_over_seeds(row / 50, is_share=True)[2:0:-1])
        for row in counts
    ]
    assert np.mean(widths) == pytest.approx(1.96 / 2.093, rel=0.05)


def test_other_means_over_seeds_are_students():
    estimate = mean_over_seeds([1.0, 2.0, 3.0])
    assert (estimate.value, estimate.n) == (2.0, 3)
    assert estimate.high - 2.0 == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert 2.0 - estimate.low == pytest.approx(4.3027 / 3**0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share_interval(1.1, 5), "share must be from 0 to 1, got 1.1"),
        (lambda: share_interval(0.5, 0), "trials must be above 0 and finite, got 0"),
        (lambda: share_interval(0.5, 5, level=1.0), "level must be between 0 and 1, got 1.0"),
        (lambda: estimate_share([2.0], [1.0]), "hits must be from 0 to out_of, each"),
    ],
)
def test_what_is_no_share_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert math.isnan(estimate_share([]).value)
