"""The laws of over-optimisation: known coefficients come back, peaks are where calculus says."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from llm_gym.statistics.scaling_laws import fit_law, law_value

D = np.linspace(0.0, 3.0, 25)


@pytest.mark.parametrize(("law", "peak_d"), [("best_of_n", 1.2 / 0.8), ("rl", math.exp(2.0))])
def test_noiseless_points_give_their_coefficients_and_the_peak(law, peak_d):
    fit = fit_law(D, law_value(law, D, 1.2, 0.4), law)
    assert (fit.alpha, fit.beta) == pytest.approx((1.2, 0.4))
    assert fit.r_squared == pytest.approx(1.0)
    assert fit.peak_distance == pytest.approx(peak_d)
    fine = np.linspace(0.9 * peak_d, 1.1 * peak_d, 2001)
    values = law_value(law, fine, 1.2, 0.4)
    assert fine[values.argmax()] == pytest.approx(peak_d, abs=peak_d / 5000)
    assert fit.peak_gain == pytest.approx(values.max(), rel=1e-6)
    assert fit.turns == (peak_d < 3.0)


def test_laws_by_hand():
    assert law_value("best_of_n", [0.0, 2.0], 3.0, 0.5) == pytest.approx([0.0, 4.0])
    assert law_value("rl", [0.0, 1.0, math.e], 3.0, 0.5) == pytest.approx([0.0, 3.0, 2.5 * math.e])


@pytest.mark.parametrize("law", ["best_of_n", "rl"])
def test_a_curve_that_never_turns_has_no_peak(law):
    fit = fit_law(D, law_value(law, D, 1.0, -0.2), law)
    assert fit.beta == pytest.approx(-0.2)
    assert fit.peak_distance is None
    assert fit.peak_gain is None
    assert not fit.turns


def test_a_curve_that_only_falls_peaks_at_the_start():
    fit = fit_law(D, law_value("best_of_n", D, -1.0, 0.2), "best_of_n")
    assert (fit.peak_distance, fit.peak_gain) == (0.0, 0.0)


def test_the_wrong_form_fits_worse():
    gain = law_value("best_of_n", D, 2.0, 0.6)
    assert fit_law(D, gain, "rl").r_squared < fit_law(D, gain, "best_of_n").r_squared - 0.005


def test_weights_are_those_of_repeated_points():
    rng = np.random.default_rng(0)
    gain = law_value("rl", D, 1.0, 0.5) + rng.normal(0, 0.1, len(D))
    times = rng.integers(1, 4, len(D))
    weighted = fit_law(D, gain, "rl", weights=times)
    repeated = fit_law(np.repeat(D, times), np.repeat(gain, times), "rl")
    assert weighted.alpha == pytest.approx(repeated.alpha)
    assert weighted.beta == pytest.approx(repeated.beta)
    assert weighted.r_squared == pytest.approx(repeated.r_squared)


def test_intervals_over_runs_cover_and_know_that_points_of_a_run_belong_together():
    """Runs differ in alpha; points taken one by one would look far more certain than they are."""
    rng = np.random.default_rng(0)
    covered, by_run, by_point = 0, [], []
    for _ in range(60):
        alphas = rng.normal(1.0, 0.3, 12)
        gain = np.concatenate([law_value("best_of_n", D, alpha, 0.3) for alpha in alphas])
        runs = np.repeat(np.arange(12), len(D))
        distance = np.tile(D, 12)
        fit = fit_law(distance, gain, "best_of_n", groups=runs, resamples=300)
        low, high = fit.intervals["alpha"]
        covered += low <= 1.0 <= high
        by_run.append(high - low)
        low, high = fit_law(distance, gain, "best_of_n", resamples=300).intervals["alpha"]
        by_point.append(high - low)
    assert covered >= 50
    assert np.mean(by_run) > 1.2 * np.mean(by_point)


def test_an_interval_without_an_end_becomes_null_in_json():
    rng = np.random.default_rng(3)
    gain = law_value("best_of_n", D, 1.0, 0.0) + rng.normal(0, 0.3, len(D))
    fit = fit_law(D, gain, "best_of_n")
    assert fit.intervals["peak_distance"][1] == math.inf
    stored = json.loads(json.dumps(fit.to_dict(), allow_nan=False))
    assert stored["intervals"]["peak_distance"][1] is None


def test_equal_gains_have_no_share_of_variance():
    assert fit_law([1.0, 2.0], [0.0, 0.0], "rl").r_squared is None


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"distance": [1.0, 2.0], "gain": [1.0]}, "one length"),
        ({"distance": [1.0, 1.0], "gain": [1.0, 1.0]}, "two or more distances"),
        ({"distance": [0.0, 1.0], "gain": [0.0, 1.0]}, "two or more distances"),
        ({"distance": [-1.0, 1.0], "gain": [0.0, 1.0]}, "distance must be >= 0"),
        ({"distance": [1.0, 2.0], "gain": [math.nan, 1.0]}, "gain contains NaN"),
        ({"distance": [1.0, 2.0], "gain": [1.0, 1.0], "weights": [0.0, 1.0]}, "weights > 0"),
        ({"distance": [1.0, 2.0], "gain": [1.0, 1.0], "groups": [1]}, "groups has shape"),
    ],
)
def test_bad_points_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        fit_law(law="rl", **kwargs)


def test_an_unknown_law_is_refused():
    with pytest.raises(ValueError, match="law='bon' must be one of"):
        fit_law([1.0, 2.0], [1.0, 2.0], "bon")
