"""The equations of motion: published figures, sanity, convergence, and the fast forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from llm_gym_autopilot.aircraft import AIRCRAFT, FEET, GRAVITY, NAVION, find_aircraft
from llm_gym_autopilot.dynamics import (
    density_ratio,
    derivatives,
    rk4_step,
    standard_density_ratio,
)
from llm_gym_autopilot.modes import NELSON, find_modes, linearise, modes_of_matrix
from llm_gym_autopilot.scalar_flight import make_scalar_step
from llm_gym_autopilot.trim import trim
from llm_gym_autopilot.vector_flight import VectorFlight, sin_cos


def trimmed_state(airspeed, altitude):
    """State `(6, N)` and elevator, throttle of trimmed flight."""
    airspeed, altitude = np.broadcast_arrays(
        np.asarray(airspeed, float), np.asarray(altitude, float)
    )
    alpha, elevator, throttle = trim(NAVION, airspeed, altitude)
    state = np.stack(
        [airspeed * np.cos(alpha), airspeed * np.sin(alpha), 0 * alpha, alpha, altitude, throttle]
    )
    return state, elevator, throttle


# ---------------------------------------------------------------------- published figures


def test_the_table_is_the_published_one():
    assert pytest.approx(2750, rel=1e-6) == NAVION.mass / 0.45359237
    assert pytest.approx(184, rel=1e-6) == NAVION.wing_area / FEET**2
    assert pytest.approx(5.7, rel=1e-6) == NAVION.chord / FEET
    assert (NAVION.lift_zero, NAVION.lift_alpha, NAVION.lift_elevator) == (0.41, 4.44, 0.355)
    assert (NAVION.moment_alpha, NAVION.moment_alpha_rate) == (-0.683, -4.36)
    assert (NAVION.moment_pitch_rate, NAVION.moment_elevator) == (-9.96, -0.923)
    # CD = 0.05 and CD_alpha = 0.33 in the reference condition.
    lift = NAVION.lift_zero
    assert NAVION.drag_minimum + NAVION.drag_induced * lift**2 == pytest.approx(0.05)
    assert 2 * NAVION.drag_induced * lift * NAVION.lift_alpha == pytest.approx(0.33)
    assert NAVION.maximum_lift == pytest.approx(1.45)


@pytest.mark.parametrize("mode", ["short_period", "phugoid"])
def test_modes_are_nelsons(mode):
    ours = getattr(find_modes(NAVION, 176 * FEET, constant_thrust=True), mode)
    book = getattr(NELSON, mode)
    assert ours.frequency == pytest.approx(book.frequency, rel=0.03)
    assert ours.real == pytest.approx(book.real, rel=0.03)


def test_the_reference_condition_needs_hardly_any_elevator():
    alpha, elevator, throttle = trim(NAVION, NAVION.reference_airspeed, 0.0)
    assert abs(math.degrees(alpha)) < 0.1  # CL0 balances the weight there, to three figures
    assert abs(math.degrees(elevator)) < 0.1
    assert 0.5 < throttle < 0.7


def test_thrust_that_falls_with_speed_damps_the_phugoid():
    constant = find_modes(NAVION, 55.0, 1000.0, constant_thrust=True)
    falling = find_modes(NAVION, 55.0, 1000.0)
    assert falling.phugoid.damping > 1.3 * constant.phugoid.damping
    assert falling.short_period.real == pytest.approx(constant.short_period.real, rel=1e-3)


def test_phugoid_period_is_lanchesters_roughly():
    # T = pi sqrt(2) V / g (Lanchester, 1908) neglects drag and pitching.
    period = find_modes(NAVION, 55.0, constant_thrust=True).phugoid.period
    assert period == pytest.approx(math.pi * math.sqrt(2) * 55.0 / GRAVITY, rel=0.25)


def test_modes_show_in_free_flight():
    state, elevator, throttle = trimmed_state(55.0, 1500.0)
    mode = find_modes(NAVION, 55.0, 1500.0).phugoid
    state[0] += 1.0
    speeds = []
    for _ in range(1500):
        state = rk4_step(NAVION, state, elevator, throttle, dt=0.1)
        speeds.append(np.hypot(state[0], state[1]) - 55.0)
    crossings = np.flatnonzero(np.diff(np.sign(speeds)) > 0)
    assert np.diff(crossings).mean() * 0.1 == pytest.approx(mode.period, rel=0.03)


def test_a_matrix_without_oscillations_is_refused():
    with pytest.raises(ValueError, match="not two oscillations"):
        modes_of_matrix(-np.eye(4))


def test_linearise_is_the_derivative():
    matrix = linearise(NAVION, 55.0, 1200.0)
    state, elevator, throttle = trimmed_state(55.0, 1200.0)
    nudge = np.array([0.01, -0.02, 0.001, 0.002, 0, 0])
    change = derivatives(NAVION, state + nudge, elevator, throttle)[:4]
    np.testing.assert_allclose(change, matrix @ nudge[:4], rtol=0.01, atol=1e-4)


# ---------------------------------------------------------------------- sanity


def test_density_is_the_standard_atmospheres():
    altitudes = np.linspace(-200, 4000, 500)
    error = density_ratio(altitudes) - standard_density_ratio(altitudes)
    assert np.abs(error).max() < 3e-6
    assert standard_density_ratio(0.0) == 1.0
    assert standard_density_ratio(2000.0) == pytest.approx(1.00655 / 1.225, rel=1e-4)  # ISO 2533


@pytest.mark.parametrize("altitude", [0.0, 1000.0, 2500.0])
def test_trimmed_flight_has_no_acceleration(altitude):
    airspeeds = np.linspace(36, 62, 14)
    state, elevator, throttle = trimmed_state(airspeeds, altitude)
    assert np.abs(derivatives(NAVION, state, elevator, throttle)).max() < 1e-12


def test_slower_flight_needs_more_angle_of_attack_and_stick():
    alpha, elevator, _ = trim(NAVION, np.linspace(36, 62, 30), 1000.0)
    assert (np.diff(alpha) < 0).all()
    assert (np.diff(elevator) > 0).all()  # trailing edge further up the slower


def test_power_curve_has_a_back_side():
    throttles = trim(NAVION, np.linspace(32, 62, 60), 500.0).throttle
    best = int(np.argmin(throttles))
    assert 0 < best < 59, "level flight at minimum power lies between stall and top speed"


def test_energy_without_drag_and_thrust_is_kept():
    glider = replace(NAVION, drag_minimum=0.0, drag_induced=0.0, power=0.0, post_stall_drag=0.0)
    state, elevator, _ = trimmed_state(55.0, 1500.0)
    state[0] += 3.0

    def energy(s):
        return GRAVITY * s[4] + 0.5 * (s[0] ** 2 + s[1] ** 2)

    start = energy(state)
    heights = []
    for _ in range(1200):
        state = rk4_step(glider, state, elevator, 0.0, dt=0.05)
        heights.append(state[4])
    assert max(heights) - min(heights) > 20  # it does swap height for speed
    assert energy(state) == pytest.approx(start, rel=1e-6)


def test_drag_only_takes_energy_away():
    glider = replace(NAVION, power=0.0)
    state, elevator, _ = trimmed_state(55.0, 1500.0)
    energies = []
    for _ in range(300):
        energies.append(GRAVITY * state[4] + 0.5 * (state[0] ** 2 + state[1] ** 2))
        state = rk4_step(glider, state, elevator, 0.0)
    assert (np.diff(energies) < 0).all()


def test_signs():
    state, elevator, throttle = trimmed_state(55.0, 1500.0)
    nose_up = rk4_step(NAVION, state, elevator - 0.05, throttle)
    assert nose_up[2] > 0, "elevator trailing edge up pitches the nose up"
    assert rk4_step(NAVION, state, elevator, 1.0)[0] > state[0], "power accelerates"
    updraft = derivatives(NAVION, state, elevator, throttle, gust_w=-2.0)
    assert updraft[1] < 0, "air from below lifts (z points down)"
    assert updraft[2] < 0, "and a stable aeroplane turns its nose into it"


def test_lift_breaks_at_the_stall():
    speed = 40.0
    lifts = []
    for alpha in np.linspace(0.1, 0.4, 61):
        state = np.array([speed * np.cos(alpha), speed * np.sin(alpha), 0, 0, 1000.0, 0])
        rates = derivatives(NAVION, state, 0.0, 0.0)
        force = rates[:2] - [0, GRAVITY]  # specific force along x and z
        lifts.append(force[0] * np.sin(alpha) - force[1] * np.cos(alpha))
    top = np.linspace(0.1, 0.4, 61)[int(np.argmax(lifts))]
    assert top == pytest.approx(NAVION.stall_alpha, abs=0.006)


def test_unknown_aircraft():
    assert find_aircraft("navion") is AIRCRAFT["navion"]
    with pytest.raises(ValueError, match="aircraft='747' must be one of navion"):
        find_aircraft("747")


# ---------------------------------------------------------------------- the integrator


def doublet(dt, seconds=20.0):
    """Height and pitch after an elevator doublet of 3 degrees."""
    state, elevator, throttle = trimmed_state(55.0, 1500.0)
    for step in range(round(seconds / dt)):
        time = (step + 0.5) * dt
        push = math.radians(3) * ((1 < time < 3) - (3 < time < 5))
        state = rk4_step(NAVION, state, elevator + push, throttle + 0.1 * (time > 8), dt=dt)
    return state


def test_the_integrator_converges_with_order_four():
    reference = doublet(0.0125)
    errors = [np.abs(doublet(dt) - reference)[:4].max() for dt in (0.2, 0.1, 0.05)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 3.5).all(), (errors, orders)


def test_one_step_an_action_is_accurate_enough():
    coarse, fine = doublet(0.2, 60.0), doublet(0.0125, 60.0)
    assert abs(coarse[4] - fine[4]) < 0.02  # m
    assert abs(coarse[3] - fine[3]) < math.radians(0.003)


def test_the_power_lags_exactly():
    state, elevator, _ = trimmed_state(55.0, 1500.0)
    start = state[5]
    for _ in range(10):
        state = rk4_step(NAVION, state, elevator, 1.0)
    assert state[5] == pytest.approx(1 + (start - 1) * math.exp(-2.0), rel=1e-12)


# ---------------------------------------------------------------------- the fast forms


def test_scalar_and_vector_steps_are_the_obvious_ones():
    rng = np.random.default_rng(0)
    n = 64
    state, elevator, _ = trimmed_state(rng.uniform(35, 62, n), rng.uniform(100, 2500, n))
    state[1] += rng.uniform(-2, 12, n)  # some are stalled
    table = state[[4, 0, 1, 2, 3]].copy()
    power, lift, thrust = state[5].copy(), np.zeros(n), np.zeros(n)
    fast = VectorFlight(NAVION, 0.2, table, power, lift, thrust)
    scalar = make_scalar_step(NAVION, 0.2)
    rows = [tuple(float(x) for x in state[:, i]) for i in range(n)]
    for _ in range(40):
        e = elevator + rng.uniform(-0.05, 0.05, n)
        t = rng.uniform(0, 1, n)
        gust_u, gust_w = rng.normal(size=(2, n))
        state = rk4_step(NAVION, state, e, t, gust_u, gust_w)
        fast.step(e, t, gust_u, gust_w)
        results = [
            scalar(*row, *map(float, (e[i], t[i], gust_u[i], gust_w[i])))
            for i, row in enumerate(rows)
        ]
        rows = [result[:6] for result in results]
        np.testing.assert_allclose(table[[1, 2, 3, 4, 0]], state[:5], rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(np.transpose(rows), state, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose([r[6] for r in results], lift / GRAVITY, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose([r[7] for r in results], thrust * NAVION.mass, rtol=1e-9)
    assert (np.arctan2(state[1], state[0]) < NAVION.stall_alpha).any()


def test_stalled_rows_are_flown_like_the_others():
    alphas = np.array([0.05, 0.3])
    state = np.stack(
        [
            40 * np.cos(alphas),
            40 * np.sin(alphas),
            0 * alphas,
            alphas,
            1000 + 0 * alphas,
            0.5 + 0 * alphas,
        ]
    )
    table, power = state[[4, 0, 1, 2, 3]].copy(), state[5].copy()
    zeros = np.zeros(2)
    VectorFlight(NAVION, 0.2, table, power, np.zeros(2), np.zeros(2)).step(
        zeros, zeros + 0.5, zeros, zeros
    )
    np.testing.assert_allclose(
        table[[1, 2, 3, 4, 0]], rk4_step(NAVION, state, 0.0, 0.5)[:5], rtol=1e-12
    )


def test_load_factor_in_level_flight_is_one():
    state, elevator, throttle = trimmed_state(53.6, 0.0)
    values = [float(x) for x in state]
    *_, load_factor, thrust = make_scalar_step(NAVION, 0.0)(
        *values, float(elevator), float(throttle), 0.0, 0.0
    )
    assert load_factor == pytest.approx(1.0, abs=0.01)
    assert thrust == pytest.approx(0.05 / 0.41 * NAVION.mass * GRAVITY, rel=0.02)  # drag over lift


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sin_cos(dtype):
    angles = np.linspace(-3.1, 3.1, 999).astype(dtype)
    sin, cos, scratch = (np.empty_like(angles) for _ in range(3))
    sin_cos(angles, sin, cos, scratch)
    tolerance = 1e-14 if dtype is np.float64 else 1e-6
    np.testing.assert_allclose(sin, np.sin(angles), atol=tolerance)
    np.testing.assert_allclose(cos, np.cos(angles), atol=tolerance)
