"""Best-of-n: exact against counting by hand and by enumeration, sampled without bias."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from llm_gym.statistics.best_of_n import best_of_n, estimate_best_of_n, kl_bound


def by_enumeration(probabilities, scores, n):
    """Every group of n answers, a tie shared equally among the tied draws."""
    best_of = np.zeros(len(probabilities))
    for group in itertools.product(range(len(probabilities)), repeat=n):
        best = max(scores[i] for i in group)
        winners = [i for i in group if scores[i] == best]
        for i in winners:
            best_of[i] += math.prod(probabilities[j] for j in group) / len(winners)
    return best_of


def test_a_coin_by_hand():
    """Of n tosses the best is tails only if all are: probability 2^-n."""
    [three] = best_of_n([0.5, 0.5], [0.0, 1.0], 3)
    assert three.probabilities == pytest.approx([1 / 8, 7 / 8])
    assert three.kl == pytest.approx(1 / 8 * math.log(1 / 4) + 7 / 8 * math.log(7 / 4))
    assert three.win_rate == pytest.approx(1 / 8 * 0.25 + 7 / 8 * 0.75)
    assert three.expectation([10.0, 2.0]) == pytest.approx(10 / 8 + 14 / 8)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("scores", [[3.0, 1.0, 2.0, 0.0], [1.0, 1.0, 2.0, 2.0], [0.0] * 4])
def test_equals_counting_all_groups_with_and_without_ties(n, scores):
    probabilities = [0.1, 0.2, 0.3, 0.4]
    [exact] = best_of_n(probabilities, scores, n)
    expected = by_enumeration(probabilities, scores, n)
    assert exact.probabilities == pytest.approx(expected)
    kl = sum(q * math.log(q / p) for q, p in zip(expected, probabilities, strict=True) if q)
    assert exact.kl == pytest.approx(kl, abs=1e-12)


def test_the_published_bounds():
    """0.193, 0.636, 1.204, 1.835 nats at n = 2, 4, 8, 16."""
    assert kl_bound([2, 4, 8, 16]) == pytest.approx([0.193, 0.636, 1.204, 1.835], abs=5e-4)


def test_bounds_hold_and_are_reached_without_ties_only():
    ns = [1, 2, 4, 8, 16, 64]
    many = 200_000
    fine = best_of_n(np.full(many, 1 / many), np.arange(many), ns)
    assert [exact_of_n.kl for exact_of_n in fine] == pytest.approx(kl_bound(ns), abs=1e-3)
    assert [exact_of_n.win_rate for exact_of_n in fine] == pytest.approx(
        [n / (n + 1) for n in ns], abs=1e-4
    )
    rng = np.random.default_rng(0)
    coarse = best_of_n(rng.dirichlet(np.ones(6)), [0, 0, 1, 1, 2, 3], ns)
    for n, result, bound in zip(ns[1:], coarse[1:], kl_bound(ns)[1:], strict=True):
        assert result.kl < bound
        assert result.win_rate < n / (n + 1)


def test_the_divergence_stays_below_the_surprise_of_the_best_where_the_bound_does_not():
    """The caveat: with a best answer of probability 1/4, no n costs more than log 4."""
    exact = best_of_n([0.75, 0.25], [0.0, 1.0], [10, 1000, 1e9])
    assert all(exact_of_n.kl <= math.log(4) + 1e-12 for exact_of_n in exact)
    assert exact[-1].kl == pytest.approx(math.log(4))
    assert kl_bound(1e9) > 19


def test_one_draw_changes_nothing_and_absent_answers_never_appear():
    probabilities = [0.3, 0.0, 0.7]
    single, many = best_of_n(probabilities, [1.0, 99.0, 0.0], [1, 50])
    assert single.probabilities == pytest.approx(probabilities)
    assert single.kl == 0.0
    assert single.win_rate == pytest.approx(0.5)
    assert many.probabilities[1] == 0.0
    assert many.probabilities.sum() == pytest.approx(1.0)


def test_rare_answers_are_exact_for_a_large_n():
    """1 - (1 - 1e-12)^n, where 1 - 1e-12 has lost most of its digits."""
    [exact] = best_of_n([1 - 1e-12, 1e-12], [0.0, 1.0], 1e6)
    assert exact.probabilities[1] == pytest.approx(-math.expm1(1e6 * math.log1p(-1e-12)), rel=1e-6)


def test_a_broken_n_lies_between_its_neighbours():
    low, middle, high = best_of_n([0.2, 0.3, 0.5], [3.0, 2.0, 1.0], [2, 2.5, 3])
    assert low.kl < middle.kl < high.kl


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.4], [0.0, 1.0], 2), "sum of 0.9"),
        (([1.5, -0.5], [0.0, 1.0], 2), "non-negative"),
        (([0.5, 0.5], [0.0, math.nan], 2), "scores contains NaN"),
        (([1.0], [0.0, 1.0], 2), "one length"),
        (([0.5, 0.5], [0.0, 1.0], 0), "must be 1 or more"),
    ],
)
def test_bad_distributions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        best_of_n(*arguments)


def test_values_of_another_length_are_refused():
    with pytest.raises(ValueError, match="there are 2 answers"):
        best_of_n([0.5, 0.5], [0.0, 1.0], 2)[0].expectation([1.0])


# ------------------------------------------------------------------ from samples


def test_estimate_is_the_mean_over_all_groups():
    """Three samples, groups of two: (1, 2), (1, 5), (2, 5) have gold 20, 50, 50."""
    estimate = estimate_best_of_n([[1.0, 5.0, 2.0]], {"gold": [[10.0, 50.0, 20.0]]}, [1, 2, 3])
    assert estimate.mean["gold"] == pytest.approx([80 / 3, 40.0, 50.0])
    assert estimate.mean["score"] == pytest.approx([8 / 3, 4.0, 5.0])


def test_ties_among_samples_count_with_their_mean():
    estimate = estimate_best_of_n([[1.0, 1.0, 0.0]], {"gold": [[6.0, 2.0, 100.0]]}, [2, 3])
    assert estimate.mean["gold"] == pytest.approx([4.0, 4.0])


def test_estimate_is_unbiased_and_its_intervals_cover_the_truth():
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(12))
    scores, gold = rng.integers(0, 6, 12).astype(float), rng.normal(size=12)
    ns = [1, 2, 5, 16]
    truth = [exact_of_n.expectation(gold) for exact_of_n in best_of_n(probabilities, scores, ns)]
    draws = rng.choice(12, p=probabilities, size=(4000, 16))
    estimate = estimate_best_of_n(scores[draws], {"gold": gold[draws]}, ns)
    assert estimate.mean["gold"] == pytest.approx(truth, abs=0.02)
    covered = np.zeros(len(ns))
    for part in np.split(draws, 100):
        estimate = estimate_best_of_n(scores[part], {"gold": gold[part]}, ns, resamples=300)
        covered += (estimate.low["gold"] <= truth) & (truth <= estimate.high["gold"])
    assert (covered >= 84).all()  # of 100, at 95 %; the percentile bootstrap of 40 is a bit narrow


def test_many_samples_do_not_overflow():
    scores = np.arange(20_000.0)[None]
    estimate = estimate_best_of_n(scores, {}, [1, 10_000, 20_000], resamples=1)
    assert estimate.mean["score"][0] == pytest.approx(scores.mean())
    # The expected maximum of n out of 0..N-1 without replacement is n (N + 1) / (n + 1) - 1.
    assert estimate.mean["score"][1] == pytest.approx(10_000 * 20_001 / 10_001 - 1)
    assert estimate.mean["score"][2] == 19_999


@pytest.mark.parametrize(
    ("scores", "values", "n", "message"),
    [
        ([1.0, 2.0], {}, [1], "shape"),
        ([[1.0, 2.0]], {"gold": [[1.0]]}, [1], "gold"),
        ([[1.0, 2.0]], {"score": [[1.0, 2.0]]}, [1], "rename"),
        ([[1.0, 2.0]], {}, [3], "between 1 and the 2 samples"),
        ([[1.0, 2.0]], {}, [1.5], "whole numbers"),
        ([[1.0, math.inf]], {}, [1], "infinity"),
    ],
)
def test_bad_samples_are_refused(scores, values, n, message):
    with pytest.raises(ValueError, match=message):
        estimate_best_of_n(scores, values, n)
