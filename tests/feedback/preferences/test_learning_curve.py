"""Power laws recovered from points that lie on them."""

from __future__ import annotations

import random

import pytest

from llm_gym.feedback.preferences import LearningCurve, fit_learning_curve

SIZES = [50, 100, 200, 400, 800, 1600]


def accuracies(floor, scale, exponent):
    return [1 - floor - scale * n**-exponent for n in SIZES]


@pytest.mark.parametrize(
    ("floor", "scale", "exponent"), [(0.1, 2.0, 0.5), (0.0, 1.0, 0.25), (0.25, 5.0, 1.0)]
)
def test_points_on_a_power_law_give_it_back(floor, scale, exponent):
    curve = fit_learning_curve(SIZES, accuracies(floor, scale, exponent))
    assert (curve.floor, curve.scale) == pytest.approx((floor, scale), abs=1e-6)
    assert curve.exponent == pytest.approx(exponent, abs=1e-6)
    assert curve.largest == 1600
    assert curve.accuracy(100) == pytest.approx(accuracies(floor, scale, exponent)[1])


def test_a_known_floor_is_kept():
    points = accuracies(0.1, 2.0, 0.5)
    curve = fit_learning_curve(SIZES[:2], points[:2], floor=0.1)
    assert (curve.floor, curve.scale, curve.exponent) == pytest.approx((0.1, 2.0, 0.5), abs=1e-6)


def test_noise_moves_the_fit_only_a_little():
    rng = random.Random(0)
    points = [each + rng.gauss(0, 0.005) for each in accuracies(0.1, 2.0, 0.5)]
    curve = fit_learning_curve(SIZES, points)
    assert curve.accuracy(400) == pytest.approx(0.8, abs=0.01)


def test_points_that_get_worse_give_a_flat_curve():
    curve = fit_learning_curve([10, 20, 40], [0.8, 0.7, 0.6])
    assert curve.scale == 0
    assert curve.accuracy(10) == curve.accuracy(1e6) == pytest.approx(0.7)
    assert curve.comparisons_for(0.65) == 1


def test_comparisons_for_an_accuracy():
    curve = LearningCurve(floor=0.1, scale=2.0, exponent=0.5, largest=1600)
    assert curve.comparisons_for(0.8) == 400
    assert curve.comparisons_for(0.85) == 1600
    assert curve.comparisons_for(-1.1) == 1
    with pytest.raises(ValueError, match=r"accuracy=0.9 is out of reach.* ends at 0.900"):
        curve.comparisons_for(0.9)
    flat = LearningCurve(floor=0.3, scale=0.0, exponent=0.02, largest=40)
    with pytest.raises(ValueError, match="out of reach"):
        flat.comparisons_for(0.8)


@pytest.mark.parametrize(
    ("sizes", "points", "problem"),
    [
        ([10, 20], [0.5, 0.6], "at least 3 different numbers"),
        ([10, 10, 10], [0.5, 0.6, 0.7], "at least 3 different numbers"),
        ([10, 20, 30], [0.5, 0.6], "an accuracy each"),
        ([0, 20, 30], [0.5, 0.6, 0.7], "comparisons must be at least 1"),
        ([10, 20, 30], [0.5, 0.6, 70], "accuracies in"),
        ([10, 20, 30], [0.5, 0.6, float("nan")], "accuracies in"),
    ],
)
def test_too_little_to_fit_is_refused(sizes, points, problem):
    with pytest.raises(ValueError, match=problem):
        fit_learning_curve(sizes, points)
