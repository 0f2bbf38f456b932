"""Measures of flights small enough to be measured by hand."""

import numpy as np
import pytest
from llm_gym_autopilot import metrics

NAN = np.nan


def flights(*columns):
    """One column a flight: `(T + 1, N)`."""
    return np.array(columns, dtype=np.float64).T


def test_rise_time_is_when_a_tenth_is_left():
    error = flights([50, 30, 5, -8, 1], [-20, -20, -2.1, -1.9, 0], [10, 9, 8, 7, 6])
    np.testing.assert_allclose(metrics.rise_time(error), [0.4, 0.6, NAN])
    np.testing.assert_allclose(metrics.rise_time(error, share=0.6), [0.2, 0.4, 0.8])


def test_settling_time_counts_from_the_last_time_outside():
    error = flights([9, 2, -4, 2, 1], [1, 1, 1, 1, 1], [9, 1, 1, 1, 9], [9, 9, 9, 9, -2])
    np.testing.assert_allclose(metrics.settling_time(error, 3.0), [0.6, 0.0, NAN, 0.8])
    np.testing.assert_allclose(
        metrics.settling_time(error, np.array([5.0, 0.5, 3.0, 3.0])), [0.2, NAN, NAN, 0.8]
    )


def test_overshoot_is_on_the_other_side_only():
    error = flights([50, 10, -7, 3, -2], [-50, -60, 4, 0, 1], [50, 40, 30, 20, 10])
    np.testing.assert_allclose(metrics.overshoot(error), [7.0, 4.0, 0.0])


def test_root_mean_square_takes_the_last_seconds():
    error = flights([9, 9, 9, 3, 4], [9, 9, 9, 0, 0])
    rms = metrics.root_mean_square(error, seconds=0.4)
    np.testing.assert_allclose(rms, [np.sqrt(12.5), 0.0])
    whole = metrics.root_mean_square(error)  # the reset's row is none of the flight's
    np.testing.assert_allclose(whole[0], np.sqrt((81 + 81 + 9 + 16) / 4))


def test_control_movement_is_the_mean_step():
    np.testing.assert_allclose(
        metrics.control_movement(flights([0, 1, -1, -1, 0], [2, 2, 2, 2, 2])), [1.0, 0.0]
    )


def test_flights_that_ended_early_have_the_measures_of_what_was_flown():
    error = flights([50, 4, -6, NAN, NAN], [50, NAN, NAN, NAN, NAN])
    np.testing.assert_array_equal(metrics.ended_early(error), [True, True])
    np.testing.assert_allclose(metrics.rise_time(error), [0.2, NAN])
    np.testing.assert_allclose(metrics.settling_time(error, 9.0), [NAN, NAN])
    np.testing.assert_allclose(metrics.overshoot(error), [6.0, 0.0])
    np.testing.assert_allclose(metrics.root_mean_square(error, 0.4), [NAN, NAN])
    np.testing.assert_allclose(metrics.control_movement(error), [28.0, NAN])


def test_measures_raise_no_warnings_about_what_is_missing(recwarn):
    error = np.full((5, 2), NAN)
    for measure in (metrics.rise_time, metrics.overshoot, metrics.control_movement):
        assert np.isnan(measure(error)).all()
    assert not recwarn.list


@pytest.mark.parametrize(
    ("altitude", "airspeed", "gusty", "expected"),
    [
        ([6.0] * 75, [1.5] * 75, False, True),
        ([6.0] * 72 + [7.0] * 3, [0.0] * 75, False, True),  # 72 of 75 are 95 %, rounded up
        ([6.0] * 71 + [7.0] * 4, [0.0] * 75, False, False),
        ([-6.0] * 75, [-1.0] * 60 + [9.0] * 15, False, True),
        ([-6.0] * 75, [-1.0] * 59 + [9.0] * 16, False, False),
        ([15.0] * 75, [3.0] * 75, True, True),
        ([15.0] * 75, [3.0] * 75, False, False),
        ([0.0] * 74 + [NAN], [0.0] * 75, True, False),
    ],
)
def test_success_is_the_last_15_seconds_on_target(altitude, airspeed, gusty, expected):
    start = [100.0] * 226
    success = metrics.flight_success(
        flights(start + altitude), flights([9.0] * 226 + airspeed), gusty
    )
    assert success.tolist() == [expected]
