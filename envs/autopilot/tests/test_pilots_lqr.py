"""The regulator's mathematics against answers that are known otherwise."""

import math

import numpy as np
import pytest
from llm_gym_autopilot.aircraft import NAVION
from llm_gym_autopilot.dynamics import rk4_step
from llm_gym_autopilot.modes import find_modes, modes_of_matrix
from llm_gym_autopilot.pilots import LQRPilot
from llm_gym_autopilot.pilots.linear import (
    discretise,
    matrix_exponential,
    riccati_residual,
    solve_riccati,
)
from llm_gym_autopilot.pilots.lqr import augmented_system, linear_motion
from llm_gym_autopilot.trim import trim


def test_exponentials_that_have_a_closed_form():
    angle = 2.5
    turn = matrix_exponential(np.array([[0.0, -angle], [angle, 0.0]]))
    sine, cosine = math.sin(angle), math.cos(angle)
    np.testing.assert_allclose(turn, [[cosine, -sine], [sine, cosine]], atol=1e-14)
    np.testing.assert_allclose(
        matrix_exponential(np.diag([-3.0, 0.0, 7.0])), np.diag(np.exp([-3.0, 0.0, 7.0])), rtol=1e-13
    )
    shear = matrix_exponential(np.array([[0.0, 5.0], [0.0, 0.0]]))
    np.testing.assert_allclose(shear, [[1.0, 5.0], [0.0, 1.0]], atol=1e-14)
    np.testing.assert_array_equal(matrix_exponential(np.zeros((2, 2))), np.eye(2))


def test_a_step_of_a_mass_and_of_a_lag():
    a, b = discretise(np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0], [1.0]]), 0.2)
    np.testing.assert_allclose(a, [[1.0, 0.2], [0.0, 1.0]], atol=1e-15)
    np.testing.assert_allclose(b, [[0.02], [0.2]], atol=1e-15)  # t^2 / 2 and t
    a, b = discretise(np.array([[-4.0]]), np.array([[4.0]]), 0.3)
    assert a[0, 0] == pytest.approx(math.exp(-1.2), rel=1e-14)
    assert b[0, 0] == pytest.approx(1 - math.exp(-1.2), rel=1e-14)


def test_riccati_of_one_state_is_the_golden_ratio():
    unit = np.eye(1)
    # p = 1 + p - p^2 / (1 + p), so p^2 = p + 1, and k = p / (1 + p) = 1 / p.
    p, gain = solve_riccati(unit, unit, unit, unit)
    golden = (1 + math.sqrt(5)) / 2
    assert p[0, 0] == pytest.approx(golden, rel=1e-14)
    assert gain[0, 0] == pytest.approx(1 / golden, rel=1e-14)


def test_riccati_of_an_unstable_state_with_free_deviation_mirrors_its_pole():
    # The cheapest stable loop of x' = 2 x + u, x costing nothing, has the pole 1/2: p = 3.
    unit = np.eye(1)
    p, gain = solve_riccati(2 * unit, unit, 1e-12 * unit, unit)
    assert p[0, 0] == pytest.approx(3.0, rel=1e-9)
    assert gain[0, 0] == pytest.approx(1.5, rel=1e-9)


def test_riccati_by_doubling_is_where_plain_iteration_ends():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(4, 4)), random.normal(size=(4, 2))
    q, r = np.diag([1.0, 0.0, 2.0, 0.5]), np.diag([0.3, 1.0])
    p, gain = solve_riccati(a, b, q, r)
    plain = q
    for _ in range(500):
        k = np.linalg.solve(r + b.T @ plain @ b, b.T @ plain @ a)
        plain = q + a.T @ plain @ (a - b @ k)
    np.testing.assert_allclose(p, plain, rtol=1e-9)
    np.testing.assert_allclose(gain, k, rtol=1e-8)
    assert riccati_residual(a, b, q, r, p) < 1e-11


def test_a_wrong_solution_has_a_large_residual():
    unit = np.eye(1)
    assert riccati_residual(unit, unit, unit, unit, 2 * unit) == pytest.approx((3 - 4 / 3 - 2) / -2)


def test_what_cannot_be_held_is_refused():
    a, b = np.diag([2.0, 0.5]), np.array([[0.0], [1.0]])
    with pytest.raises(ValueError, match="does not converge"):
        solve_riccati(a, b, np.eye(2), np.eye(1))


def test_the_linear_motion_has_the_aeroplanes_modes():
    a, _ = linear_motion(NAVION, 55.0, 1000.0)
    modes, expected = modes_of_matrix(a[:4, :4]), find_modes(NAVION, 55.0, 1000.0)
    np.testing.assert_allclose(modes, expected, rtol=1e-4)


def test_the_linear_step_follows_the_real_one_for_small_inputs():
    airspeed, altitude = 53.6, 1400.0
    level = trim(NAVION, airspeed, altitude)
    start = np.array(
        [
            airspeed * np.cos(level.alpha),
            airspeed * np.sin(level.alpha),
            0.0,
            level.alpha,
            altitude,
            level.throttle,
        ]
    )
    a, b = augmented_system(NAVION, airspeed, altitude)
    inputs = np.array([1e-3, 1e-2])
    real, linear = start, np.zeros(8)
    for _ in range(10):
        real = rk4_step(NAVION, real, level.elevator + inputs[0], level.throttle + inputs[1])
        linear = a @ linear + b @ inputs
    moved = np.abs(real - start)
    assert moved.min() > 1e-4
    np.testing.assert_array_less(np.abs(real - start - linear[:6]), 0.02 * moved)
    assert linear[6] != 0


@pytest.mark.parametrize("airspeed", [45.7, 53.6, 61.0])
def test_the_closed_loop_is_stable_over_the_range_of_speeds(airspeed):
    gain = LQRPilot.design().gain
    a, b = augmented_system(NAVION, airspeed, 1400.0)
    assert np.abs(np.linalg.eigvals(a)).max() >= 1.0 - 1e-9  # the integrals, at least
    assert np.abs(np.linalg.eigvals(a - b @ gain)).max() < 0.998


def test_a_design_for_another_speed_has_another_gain():
    slow, fast = LQRPilot.design(airspeed=46.0), LQRPilot.design(airspeed=60.0)
    ratio = np.abs(slow.gain[0, 3] / fast.gain[0, 3])
    assert ratio > 1.1  # slower air, larger elevator
