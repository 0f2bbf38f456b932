"""Agreement between raters: textbook tables, worked examples and worlds counted by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from llm_gym.feedback.preferences import (
    Choice,
    Vote,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    leave_one_out_correlation,
    majority_agreement,
    rater_agreement,
    raw_agreement,
    vote_table,
)
from llm_gym.statistics.resampling import Bootstrap

NOT = -1
NO_INTERVAL = Bootstrap(resamples=0)


def by_unit(*raters: str) -> np.ndarray:
    """A table from one line a rater, one digit a unit, "." where there is none."""
    rows = [[NOT if sign == "." else int(sign) for sign in rater.split()] for rater in raters]
    return np.array(rows).T


# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): section A (two observers, no
# missing data, binary) and section C (any number of observers, missing data).
BINARY = by_unit("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0")
FOUR_OBSERVERS = by_unit(
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def test_krippendorffs_own_examples():
    assert krippendorff_alpha(BINARY).value == pytest.approx(0.095, abs=5e-4)
    estimate = krippendorff_alpha(FOUR_OBSERVERS)
    assert estimate.value == pytest.approx(0.743, abs=5e-4)
    assert estimate.n == 11  # the last unit has one value only


def test_alpha_is_what_all_pairs_counted_one_by_one_give():
    """The definition, by loops, against the sums; both orders of the answers too."""
    rng = np.random.default_rng(0)
    table = rng.integers(-1, 3, size=(30, 4))

    def by_loops(table: np.ndarray, mirrored: bool) -> float:
        units = [[v for v in unit if v != NOT] for unit in table.tolist()]
        units = [unit for unit in units if len(unit) > 1]
        observed = sum(
            sum(a != b for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j)
            / (len(unit) - 1)
            for unit in units
        )
        share = np.bincount([v for unit in units for v in unit], minlength=3).astype(float)
        if mirrored:
            share[:2] = share[:2].mean()
        n = share.sum()
        expected = sum(share[a] * share[b] for a in range(3) for b in range(3) if a != b) / (n - 1)
        return 1 - observed / expected

    for mirrored in (False, True):
        got = krippendorff_alpha(table, exchangeable=mirrored, bootstrap=NO_INTERVAL)
        assert got.value == pytest.approx(by_loops(table, mirrored), abs=1e-12)


def test_fleiss_kappa_of_fourteen_psychiatrists():
    """The table of Wikipedia's article "Fleiss' kappa": 10 subjects, 14 raters, kappa 0.210."""
    counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    table = [[c for c, count in enumerate(row) for _ in range(count)] for row in counts]
    assert fleiss_kappa(table).value == pytest.approx(0.210, abs=5e-4)
    assert raw_agreement(table).value == pytest.approx(0.378, abs=5e-4)  # P-bar of the same page


def test_cohens_kappa_of_fifty_proposals():
    """Wikipedia's article "Cohen's kappa": 20, 5, 10, 15 give p_o 0.7, p_e 0.5, kappa 0.4."""
    table = [[0, 0]] * 20 + [[0, 1]] * 5 + [[1, 0]] * 10 + [[1, 1]] * 15 + [[0, NOT]] * 9
    estimate = cohen_kappa(table)
    assert estimate.value == pytest.approx(0.4, abs=1e-12)
    assert estimate.n == 50
    assert raw_agreement(table).value == pytest.approx(0.7)


def test_cohens_kappa_corrects_for_each_raters_own_habits():
    """Same article: 60 % agreement twice, kappa 0.1304 and 0.2593 by the marginals."""
    first = [[0, 0]] * 45 + [[0, 1]] * 15 + [[1, 0]] * 25 + [[1, 1]] * 15
    second = [[0, 0]] * 25 + [[0, 1]] * 35 + [[1, 0]] * 5 + [[1, 1]] * 35
    assert cohen_kappa(first).value == pytest.approx(0.1304, abs=5e-5)
    assert cohen_kappa(second).value == pytest.approx(0.2593, abs=5e-5)


@pytest.mark.parametrize("coefficient", [cohen_kappa, fleiss_kappa, krippendorff_alpha])
def test_coefficients_at_their_ends(coefficient):
    rng = np.random.default_rng(1)
    same = rng.integers(0, 3, size=500)
    assert coefficient(np.stack([same, same], axis=1)).value == pytest.approx(1.0)
    chance = coefficient(rng.integers(0, 3, size=(4000, 2)))
    assert chance.low < 0 < chance.high
    assert chance.high - chance.low < 0.1
    assert math.isnan(coefficient([[1, 1]] * 9).value)  # no variety: nothing can be said
    nothing = coefficient(np.zeros((0, 2), dtype=int))
    assert math.isnan(nothing.value)
    assert nothing.n == 0


@pytest.mark.parametrize("coefficient", [cohen_kappa, fleiss_kappa, krippendorff_alpha])
def test_exchangeable_names_do_not_depend_on_how_answers_are_stored(coefficient):
    """Turning any comparison round changes nothing; in an imported file all are turned one way."""
    rng = np.random.default_rng(2)
    table = rng.integers(0, 3, size=(200, 2))
    table[:120, 1] = table[:120, 0]
    turned = table.copy()
    turned[::3] = np.array([1, 0, 2])[table[::3]]
    first = coefficient(table, exchangeable=True)
    assert coefficient(turned, exchangeable=True) == pytest.approx(first, abs=1e-12)

    chosen_first = np.array([[0, 0]] * 9 + [[0, 1]])  # two raters agree on 9 of 10
    assert coefficient(chosen_first).value < 0.1  # as if both always said "first"
    assert coefficient(chosen_first, exchangeable=True).value == pytest.approx(0.8, abs=0.02)


def test_unequal_numbers_of_verdicts_are_not_for_fleiss():
    with pytest.raises(ValueError, match=r"on every unit; table has 1 to 2; take krippendorff"):
        fleiss_kappa([[0, 0], [1, NOT]])
    with pytest.raises(ValueError, match="compares two raters, table has 3"):
        cohen_kappa([[0, 0, 0]])


@pytest.mark.parametrize("table", [[0, 1], [[0.5, 1.0]], [[-2, 0]]])
def test_what_is_no_table_is_refused(table):
    with pytest.raises(ValueError, match="table must hold"):
        krippendorff_alpha(table)


# ------------------------------------------------------------------ majority


def test_each_rater_against_the_majority_of_the_others_by_hand():
    table = [
        [0, 0, 0],  # all agree: 1, 1, 1
        [0, 0, 1],  # others of the first: 0 and 1, even, one of them its own: 1/2; so the second
        [1, 1, NOT],  # 1, 1, not counted
        [0, 1, 2],  # the others are even between two that are not one's own: 0, 0, 0
        [2, NOT, NOT],  # nobody to compare with
    ]
    all_raters, by_rater = majority_agreement(table)
    assert [estimate.value for estimate in by_rater] == pytest.approx([2.5 / 4, 2.5 / 4, 1 / 3])
    assert [estimate.n for estimate in by_rater] == [4, 4, 3]
    assert all_raters.value == pytest.approx(6 / 11)
    assert all_raters.n == 4


# ------------------------------------------------------------------ intervals


def test_the_interval_of_a_share_is_that_of_a_share():
    """100 pairs of verdicts, 70 the same: standard error sqrt(0.7 * 0.3 / 100) = 0.0458."""
    estimate = raw_agreement([[0, 0]] * 70 + [[0, 1]] * 30)
    assert estimate.low == pytest.approx(0.7 - 1.96 * 0.0458, abs=0.015)
    assert estimate.high == pytest.approx(0.7 + 1.96 * 0.0458, abs=0.015)


def test_full_agreement_on_a_few_comparisons_is_not_certain():
    for verdicts in ([[0, 0]] * 3, [[0] * 10] * 3):  # ten raters do not make more comparisons
        estimate = raw_agreement(verdicts)
        assert (estimate.value, estimate.high) == (1.0, 1.0)
        assert 0.3 < estimate.low < 0.5


def test_the_interval_is_reproducible_and_can_be_left_out():
    assert krippendorff_alpha(FOUR_OBSERVERS) == krippendorff_alpha(FOUR_OBSERVERS)
    other = krippendorff_alpha(FOUR_OBSERVERS, bootstrap=Bootstrap(seed=1))
    assert other != krippendorff_alpha(FOUR_OBSERVERS)
    wider = krippendorff_alpha(FOUR_OBSERVERS, bootstrap=Bootstrap(level=0.99))
    narrower = krippendorff_alpha(FOUR_OBSERVERS, bootstrap=Bootstrap(level=0.5))
    assert wider.low < narrower.low < narrower.high <= wider.high
    without = krippendorff_alpha(FOUR_OBSERVERS, bootstrap=NO_INTERVAL)
    assert math.isnan(without.low)
    assert math.isnan(without.high)


@pytest.mark.parametrize(
    ("settings", "problem"), [({"resamples": -1}, "resamples"), ({"level": 1.0}, "level")]
)
def test_settings_of_the_bootstrap_are_checked(settings, problem):
    with pytest.raises(ValueError, match=f"{problem} must be"):
        krippendorff_alpha([[0, 0]], bootstrap=Bootstrap(**settings))


# ------------------------------------------------------------------ votes


def vote(number, rater, choice, shown_first=0):
    return Vote(number, rater, Choice(choice), 1.0, shown_first)


VOTES = [
    vote(4, "bob", "first"),
    vote(4, "ann", "tie"),
    vote(7, "ann", "second"),
    vote(7, "bob", "second"),
    vote(9, "ann", "skip"),
    vote(9, "bob", "first"),
]


def test_a_table_of_votes():
    table, comparisons, raters = vote_table(VOTES)
    assert (comparisons, raters) == ([4, 7, 9], ["ann", "bob"])
    assert table.tolist() == [[2, 0], [1, 1], [NOT, 0]]
    without, comparisons, _ = vote_table(VOTES, ties=False)
    assert without.tolist() == [[NOT, 0], [1, 1], [NOT, 0]]
    assert comparisons == [4, 7, 9]


def test_agreement_of_votes_with_and_without_ties():
    both = rater_agreement(VOTES)
    assert (both.raters, both.comparisons, both.shared) == (("ann", "bob"), 3, 2)
    assert both.raw.value == 0.5
    assert both.cohen is not None
    assert both.fleiss is not None
    assert both.by_rater["ann"].value == 0.5
    without = rater_agreement(VOTES, ties=False)
    assert (without.shared, without.raw.value) == (1, 1.0)


def test_agreement_of_votes_says_what_does_not_apply():
    three = rater_agreement([*VOTES, vote(4, "cyd", "first")])
    assert three.cohen is None
    assert three.fleiss is None  # three verdicts on one, two on the other
    nobody = rater_agreement([])
    assert (nobody.raters, nobody.comparisons) == ((), 0)
    assert math.isnan(nobody.alpha.value)
    assert json.dumps(nobody.to_dict(), allow_nan=False)
    assert nobody.to_dict()["alpha"]["value"] is None


# ------------------------------------------------------------------ raters who give numbers


NONE = math.nan


def correlation(x, y) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def mean_ranks(values) -> list[float]:
    """Ranks by counting: those below, and half of the others that are equal."""
    return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]


def test_pearson_by_hand():
    """Others of the first: 2, 3, 7; of the second: 1.5, 4, 5; of the third: 1.5, 2, 6."""
    ratings = [[1, 2, 2], [3, 1, 5], [4, 8, 6]]
    agreement = leave_one_out_correlation(ratings, method="pearson")
    expected = [
        correlation([1, 3, 4], [2, 3, 7]),
        correlation([2, 1, 8], [1.5, 4, 5]),
        correlation([2, 5, 6], [1.5, 2, 6]),
    ]
    assert [estimate.value for estimate in agreement.by_rater] == pytest.approx(expected)
    assert agreement.mean.value == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_five_raters_against_the_obvious_computation(method):
    rng = np.random.default_rng(0)
    quality = rng.normal(size=60)
    ratings = np.round(quality[:, None] + rng.normal(size=(60, 5)))  # many equal ratings
    ratings[rng.random(ratings.shape) < 0.2] = np.nan
    agreement = leave_one_out_correlation(ratings, method=method)
    for rater in range(5):
        rows = [
            (row[rater], np.nanmean(np.delete(row, rater)))
            for row in ratings
            if not np.isnan(row[rater]) and not np.isnan(np.delete(row, rater)).all()
        ]
        ratings_of_rater, rest = zip(*rows, strict=True)
        rest = np.round(rest, 9)
        if method == "spearman":
            ratings_of_rater, rest = mean_ranks(ratings_of_rater), mean_ranks(rest)
        assert agreement.by_rater[rater].value == pytest.approx(
            correlation(ratings_of_rater, rest), abs=1e-9
        )
        assert agreement.by_rater[rater].n == len(rows)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_resamples_by_weights_are_resamples_by_rows(method, monkeypatch):
    """Ranks of a weighted resample equal those of the rows written out."""
    from llm_gym.feedback.preferences import agreement

    rng = np.random.default_rng(3)
    ratings = rng.integers(1, 6, size=(25, 3)).astype(float)
    drawn = rng.integers(25, size=(2, 25))
    weights = np.stack([np.bincount(row, minlength=25) for row in drawn]).astype(float)
    monkeypatch.setattr(agreement, "resample_weights", lambda *_: iter([weights]))
    seen = []
    monkeypatch.setattr(
        agreement, "interval", lambda values, _: (seen.append(values), (0.0, 0.0))[1]
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
        estimate = leave_one_out_correlation(ratings, method=method).mean
        assert estimate.low < truth < estimate.high
        width = estimate.high - estimate.low
        assert 0.03 < width < 0.08  # 2 * 1.96 * (1 - 0.25) / sqrt(3000) = 0.054


def test_a_rater_who_always_says_the_same_has_no_correlation():
    agreement = leave_one_out_correlation([[3, 1, 2], [3, 2, 3], [3, 4, 4], [3, 5, 6]])
    assert math.isnan(agreement.by_rater[0].value)
    assert agreement.by_rater[1].value == pytest.approx(1.0)


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
