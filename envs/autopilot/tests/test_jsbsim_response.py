"""The same aeroplane in JSBSim: 60 s after each input, it is where our equations put it."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("jsbsim")

from llm_gym_autopilot.aircraft import FEET, NAVION
from llm_gym_autopilot.dynamics import rk4_step
from llm_gym_autopilot.jsbsim_flight import JSBSimFlight
from llm_gym_autopilot.start import Start
from llm_gym_autopilot.trim import trim

ALTITUDE = 1500.0
SPEEDS = tuple(speed * FEET for speed in (150, 176, 220))
STEPS = 300
DEGREE = math.radians(1.0)


def held(size: float) -> np.ndarray:
    """A step after one second, `(STEPS,)`."""
    return np.where(np.arange(STEPS) >= 5, size, 0.0)


def doublet(size: float) -> np.ndarray:
    """One second one way, one the other, `(STEPS,)`."""
    step = np.arange(STEPS)
    return np.select([(step >= 5) & (step < 10), (step >= 10) & (step < 15)], [size, -size], 0.0)


NOTHING = np.zeros(STEPS)
# Change of elevator [rad] and of throttle.
INPUTS = {
    "none": (NOTHING, NOTHING),
    "elevator +1": (held(DEGREE), NOTHING),
    "elevator -1": (held(-DEGREE), NOTHING),
    "doublet 3": (doublet(3 * DEGREE), NOTHING),
    "throttle +.1": (NOTHING, held(0.1)),
    "throttle -.2": (NOTHING, held(-0.2)),
}
# Root mean square over 60 s.
TOLERANCES = {"airspeed [m/s]": 0.05, "alpha [deg]": 0.02, "pitch [deg]": 0.03, "altitude [m]": 0.6}


def start_at(airspeed: float) -> Start:
    alpha, elevator, throttle = map(float, trim(NAVION, airspeed, ALTITUDE))
    u, w = airspeed * math.cos(alpha), airspeed * math.sin(alpha)
    return Start(u, w, 0.0, alpha, ALTITUDE, throttle, elevator, throttle, airspeed)


def quantities(states: np.ndarray) -> np.ndarray:
    """What is compared, `(4, STEPS)`, of u, w, q, theta, altitude in `(STEPS, 5+)`."""
    u, w, _, theta, altitude = states[:, :5].T
    return np.stack([np.hypot(u, w), np.degrees(np.arctan2(w, u)), np.degrees(theta), altitude])


def in_jsbsim(start: Start, moves: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, float]:
    flight = JSBSimFlight("navion")
    flight.start(start)
    states, bank = [], 0.0
    for elevator, throttle in zip(*moves, strict=True):
        states.append(flight.advance(start.elevator + elevator, start.throttle + throttle))
        bank = max(bank, abs(flight.bank))
    return quantities(np.array(states)), math.degrees(bank)


def in_our_equations(start: Start, moves: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    state, states = np.array(start[:6]), []
    for elevator, throttle in zip(*moves, strict=True):
        state = rk4_step(NAVION, state, start.elevator + elevator, start.throttle + throttle)
        states.append(state)
    return quantities(np.array(states))


@pytest.fixture(scope="module")
def responses() -> dict[tuple[float, str], tuple[np.ndarray, np.ndarray, float]]:
    """RMS difference and excursion `(4,)` each, and the largest bank angle [deg], of 18 flights."""
    measured = {}
    for airspeed in SPEEDS:
        start = start_at(airspeed)
        for name, moves in INPUTS.items():
            ours = in_our_equations(start, moves)
            theirs, bank = in_jsbsim(start, moves)
            rms = np.sqrt(np.mean((theirs - ours) ** 2, axis=1))
            measured[airspeed, name] = rms, np.ptp(ours, axis=1), bank
    return measured


def table(responses) -> str:
    lines = ["RMS difference of " + ", ".join(TOLERANCES) + "; bank [deg]; excursions"]
    for (airspeed, name), (rms, excursion, bank) in responses.items():
        numbers = " ".join(f"{x:8.4f}" for x in (*rms, bank))
        spans = " ".join(f"{x:8.2f}" for x in excursion)
        lines.append(f"{airspeed / FEET:4.0f} ft/s {name:12s} {numbers}   {spans}")
    return "\n".join(lines)


@pytest.mark.parametrize("column", range(4), ids=[name.split()[0] for name in TOLERANCES])
def test_responses_agree_with_our_equations(responses, column):
    tolerance = list(TOLERANCES.values())[column]
    worst = max(rms[column] for rms, _, _ in responses.values())
    assert worst < tolerance, table(responses)


def test_wings_are_level_in_every_comparison(responses):
    assert max(bank for _, _, bank in responses.values()) < 3.0, table(responses)


def test_the_inputs_move_the_aeroplane(responses):
    """So that agreement means something."""
    spans = np.max([excursion for _, excursion, _ in responses.values()], axis=0)
    assert np.all(spans > [20.0, 5.0, 12.0, 350.0]), table(responses)
    for (_, name), (_, excursion, _) in responses.items():
        assert (excursion[2] > 1.0) == (name != "none"), table(responses)


@pytest.mark.parametrize("alpha", [0.3, 0.4])
def test_the_stall_is_the_same_too(alpha):
    """Started behind the stall, where wing lift falls and drag rises; 2 s of falling out of it."""
    level = start_at(40.0)
    start = level._replace(u=40.0 * math.cos(alpha), w=40.0 * math.sin(alpha), theta=alpha)
    ours = in_our_equations(start, (NOTHING[:10], NOTHING[:10]))
    theirs, _ = in_jsbsim(start, (NOTHING[:10], NOTHING[:10]))
    assert np.ptp(ours[1]) > 9.0
    # Airspeed [m/s], alpha and pitch [deg], altitude [m]; 10 degrees a frame earlier or later.
    assert np.all(np.abs(theirs - ours).max(axis=1) < [0.05, 0.3, 0.3, 0.1]), theirs - ours
