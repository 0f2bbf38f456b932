"""Figures of merit against numbers computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model import (
    accuracy,
    accuracy_by_margin,
    calibration_error,
    evaluate_differences,
    evaluate_ratings,
    fit_temperature,
    log_loss,
    reliability,
    spearman,
)
from llm_gym.statistics.resampling import Bootstrap


def sigma(x):
    return 1 / (1 + math.exp(-x))


def test_accuracy_counts_equal_rewards_one_half():
    assert accuracy([1.0, -2.0, 0.0, 3.0]).value == 2.5 / 4
    swapped = accuracy([-1.0, 2.0, 0.0, -3.0]).value
    assert swapped == 1 - 2.5 / 4


def test_the_interval_of_an_accuracy_is_that_of_a_share():
    estimate = accuracy([1.0] * 75 + [-1.0] * 25)
    spread = 1.96 * math.sqrt(0.75 * 0.25 / 100)
    assert (estimate.low, estimate.high) == pytest.approx((0.75 - spread, 0.75 + spread), abs=0.015)
    assert estimate.n == 100


def test_a_model_without_a_clue_loses_log_2():
    assert log_loss([0.0, 0.0]) == pytest.approx(math.log(2))
    assert log_loss([2.0, -1.0]) == pytest.approx((-math.log(sigma(2)) - math.log(sigma(-1))) / 2)
    assert log_loss([2.0], temperature=4.0) == pytest.approx(-math.log(sigma(0.5)))
    assert log_loss([-2000.0]) == pytest.approx(2000)


def test_the_bins_of_the_calibration_curve():
    # probabilities of being right 0.5, 0.62, 0.62 and 0.93; the second 0.62 is wrong
    logit = [math.log(p / (1 - p)) for p in (0.62, 0.93)]
    bins = reliability([0.0, logit[0], -logit[0], logit[1]], bins=5)
    assert [row.low for row in bins] == pytest.approx([0.5, 0.6, 0.9])
    assert [row.high for row in bins] == pytest.approx([0.6, 0.7, 1.0])
    assert [row.n for row in bins] == [1, 2, 1]
    assert [row.expected for row in bins] == pytest.approx([0.5, 0.62, 0.93])
    assert [row.accuracy for row in bins] == [0.5, 0.5, 1.0]
    assert calibration_error(bins) == pytest.approx((0 + 2 * 0.12 + 0.07) / 4)


def test_a_certain_model_is_in_the_last_bin():
    [only] = reliability([800.0], bins=3)
    assert (only.high, only.expected, only.accuracy) == (1.0, 1.0, 1.0)


def test_the_temperature_makes_a_model_as_sure_as_it_is_right():
    # right in 3 of 4 with the same difference d: sigma(d / T) = 3 / 4
    for scale in (0.01, 1.0, 300.0):
        differences = scale * np.array([1.0, 1.0, 1.0, -1.0])
        assert fit_temperature(differences) == pytest.approx(scale / math.log(3))


def test_the_temperature_is_where_the_loss_is_least():
    differences = np.random.default_rng(0).normal(1.0, 2.0, 300)
    best = fit_temperature(differences)
    least = log_loss(differences, temperature=best)
    assert least < log_loss(differences, temperature=0.98 * best)
    assert least < log_loss(differences, temperature=1.02 * best)


def test_the_temperature_has_its_limits():
    assert fit_temperature([1.0, 0.0, 2.0]) == 0.0
    assert fit_temperature([-1.0, 1.0]) == math.inf
    assert fit_temperature([0.0]) == math.inf
    with pytest.raises(ValueError, match="differences is empty"):
        fit_temperature([])


def test_accuracy_by_margin_goes_from_hard_to_easy():
    bins = accuracy_by_margin([-1.0, 1.0, 1.0, 1.0], [0.1, 0.2, 0.8, 0.9], bins=2)
    assert [(row.n, row.accuracy) for row in bins] == [(2, 0.5), (2, 1.0)]
    assert bins[0].high == bins[1].low == 0.5
    assert bins[0].low == 0.1
    assert bins[1].high == 0.9


def test_equal_margins_stay_in_one_bin():
    [only] = accuracy_by_margin([1.0, -1.0, 1.0], [1.0, 1.0, 1.0])
    assert (only.n, only.low, only.high) == (3, 1.0, 1.0)
    assert only.accuracy == pytest.approx(2 / 3)
    bins = accuracy_by_margin([1.0] * 6, [0, 0, 0, 0, 1, 1], bins=5)
    assert [(row.n, row.low, row.high) for row in bins] == [(4, 0, 0), (2, 1, 1)]
    bins = accuracy_by_margin([1.0] * 9, [0, 0, 0, 0, 0, 0, 1, 2, 3], bins=3)
    assert sum(row.n for row in bins) == 9
    assert bins[0].n >= 6


def test_spearman_is_that_of_the_mean_ranks():
    # ranks 1, 2.5, 2.5, 5, 4 and 2, 1, 4.5, 4.5, 3; less their mean of 3: products add up to
    # 2 + 1 - 0.75 + 3 + 0, squares to 9.5 each
    first, second = [1.0, 2.0, 2.0, 5.0, 3.0], [2.0, 1.0, 4.0, 4.0, 3.0]
    assert spearman(first, second).value == pytest.approx(5.25 / 9.5)
    assert spearman([1, 2, 3], [10, 20, 400]).value == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]).value == pytest.approx(-1)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]).value)


def test_the_interval_of_spearman_covers_what_it_should():
    rng = np.random.default_rng(1)
    values = rng.normal(size=400)
    estimate = spearman(values, values + rng.normal(size=400))
    assert estimate.low < estimate.value < estimate.high
    spread = 1.96 / math.sqrt(400 - 3)  # Fisher's, of the arc tangent
    assert math.atanh(estimate.high) - math.atanh(estimate.low) == pytest.approx(
        2 * spread, rel=0.3
    )
    assert math.isnan(spearman(values, values, bootstrap=Bootstrap(resamples=0)).low)


def test_ranks_of_resamples_are_those_of_their_values():
    """The interval comes from counting; here every resample is sorted afresh."""
    rng = np.random.default_rng(2)
    first, second = rng.integers(5, size=40) / 2, rng.normal(size=40)

    def ranks(values):
        below, equal = values < values[:, None], values == values[:, None]
        return below.sum(axis=1) + (equal.sum(axis=1) + 1) / 2

    rows = np.random.default_rng(3).integers(40, size=(200, 40))
    drawn = [np.corrcoef(ranks(first[row]), ranks(second[row]))[0, 1] for row in rows]
    estimate = spearman(first, second, bootstrap=Bootstrap(resamples=200, seed=3))
    assert estimate.value == pytest.approx(np.corrcoef(ranks(first), ranks(second))[0, 1])
    assert [estimate.low, estimate.high] == pytest.approx(
        np.quantile(drawn, [0.025, 0.975]).tolist()
    )


def test_an_evaluation_has_margins_and_raters_where_the_rows_have_them():
    rows = [
        Preference("p", "a", "b", {"vote_margin": margin, "rater": rater})
        for margin, rater in ((0.2, "ann"), (1.0, "ann"), (1.0, "bob"))
    ]
    figures = evaluate_differences([-1.0, 1.0, 2.0], rows)
    assert figures["comparisons"] == 3
    assert figures["accuracy"]["value"] == pytest.approx(2 / 3)
    assert [row["accuracy"] for row in figures["accuracy_by_margin"]] == [0.0, 1.0]
    by_rater = {name: row["value"] for name, row in figures["agreement_by_rater"].items()}
    assert by_rater == {"ann": 0.5, "bob": 1.0}
    plain = evaluate_differences([1.0], [Preference("p", "a", "b")])
    assert plain["accuracy_by_margin"] is None
    assert plain["temperature"] is None  # right everywhere: there is no finite one
    assert plain["agreement_by_rater"] == {}


def test_an_evaluation_of_ratings():
    table = np.array([[1.0, 3.0], [2.0, np.nan], [6.0, 4.0]])
    figures = evaluate_ratings([2.0, 3.0, 5.0], table)
    assert figures["texts"] == 3
    assert figures["rmse"] == pytest.approx(math.sqrt(1 / 3))
    assert figures["explained"] == pytest.approx(1 - (1 / 3) / 2)
    # means 2, 2 and 5 have the ranks 1.5, 1.5 and 3
    assert figures["spearman"]["value"] == pytest.approx(1.5 / math.sqrt(2 * 1.5))
    assert [row["n"] for row in figures["agreement_with_raters"]] == [3, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy([float("nan")]), "differences must be finite numbers in one row"),
        (lambda: accuracy([[1.0]]), r"got shape \(1, 1\)"),
        (lambda: accuracy_by_margin([1.0], []), "need as many margins as differences"),
        (lambda: reliability([1.0], bins=0), "bins must be at least 1, got 0"),
        (lambda: spearman([1.0], [1.0, 2.0]), "must be of one length, got 1 and 2"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
