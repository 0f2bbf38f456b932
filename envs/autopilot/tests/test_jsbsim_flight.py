"""Flights in JSBSim, and the traps on the way there."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jsbsim")

import jsbsim
from llm_gym_autopilot.aircraft import FEET, GRAVITY, NAVION
from llm_gym_autopilot.dynamics import thrust_per_power
from llm_gym_autopilot.jsbsim_flight import JSBSimFlight
from llm_gym_autopilot.jsbsim_models import GeneratedModel, generated_aircraft_folder
from llm_gym_autopilot.start import Start
from llm_gym_autopilot.trim import trim

BOTH = pytest.mark.parametrize("aircraft", ["navion", "c172p"])


def start_at(airspeed: float, altitude: float, **changes: float) -> Start:
    """Trimmed, but for the changes."""
    alpha, elevator, throttle = map(float, trim(NAVION, airspeed, altitude))
    u, w = airspeed * math.cos(alpha), airspeed * math.sin(alpha)
    start = Start(u, w, 0.0, alpha, altitude, throttle, elevator, throttle, airspeed)
    return start._replace(**changes)


START = start_at(54.0, 1400.0)


def fly(flight: JSBSimFlight, start: Start, steps: int = 25) -> list:
    """A lively flight: stick, throttle and gusts move."""
    states = [flight.start(start)]
    elevator, throttle = flight.elevator, flight.throttle
    for step in range(steps):
        swing = math.sin(0.9 * step)
        states.append(
            flight.advance(
                elevator + 0.02 * swing, throttle + 0.1 * swing, 1.5 * swing, 2.0 * math.cos(step)
            )
        )
    return states


def test_a_model_that_jsbsim_refuses_is_an_error(capfd):
    flight = JSBSimFlight()
    flight._model = GeneratedModel(dataclasses.replace(NAVION, name="missing"))
    with pytest.raises(RuntimeError, match="could not load"):
        flight.start(START)


def test_the_navion_starts_exactly_where_it_is_told():
    start = Start(53.0, 2.0, -0.03, 0.07, 1234.5, 0.4, 0.02, 0.6, math.hypot(53.0, 2.0))
    flight = JSBSimFlight()
    state = flight.start(start)
    for name in ("u", "w", "q", "theta", "power"):
        assert getattr(state, name) == pytest.approx(getattr(start, name), abs=1e-12)
    assert state.altitude == pytest.approx(start.altitude, abs=1e-6)
    assert (flight.elevator, flight.throttle) == (start.elevator, start.throttle)


@BOTH
def test_a_flight_repeats_to_the_last_bit_after_another_one(aircraft):
    flight = JSBSimFlight(aircraft)
    first = fly(flight, START)
    fly(flight, start_at(47.0, 900.0))
    assert fly(flight, START) == first
    assert fly(JSBSimFlight(aircraft), START) == first


def test_the_engine_pulls_from_the_first_instant():
    flight = JSBSimFlight()
    state = flight.start(START)
    expected = START.power * float(thrust_per_power(NAVION, 54.0, 1400.0))
    assert state.thrust == pytest.approx(expected, rel=1e-4)
    after = flight.advance(START.elevator, START.throttle)
    assert after.thrust == pytest.approx(expected, rel=1e-3)


@BOTH
def test_the_power_lags_the_throttle_by_its_exponential(aircraft):
    flight = JSBSimFlight(aircraft)
    begin = flight.start(START).power
    for step in range(1, 6):
        state = flight.advance(flight.elevator, 0.2)
        assert state.power == pytest.approx(0.2 + (begin - 0.2) * math.exp(-0.2 * step), rel=1e-12)


def test_level_flight_feels_one_gravity():
    state = JSBSimFlight().start(START)
    assert state.load_factor == pytest.approx(math.cos(START.theta), abs=2e-4)
    assert state.thrust == pytest.approx(
        float(thrust_per_power(NAVION, 54.0, 1400.0)) * START.power, rel=1e-4
    )


def test_gravity_is_the_standard_one_where_we_fly():
    """At a bad latitude, 0.01 m/s^2 more or less, this drifts by several times as much."""
    flight = JSBSimFlight()
    flight.start(START)
    altitudes = [flight.advance(START.elevator, START.throttle).altitude for _ in range(300)]
    assert max(abs(h - 1400.0) for h in altitudes) < 0.1


@BOTH
def test_wings_stay_level_in_gusts(aircraft):
    flight = JSBSimFlight(aircraft)
    flight.start(START)
    for step in range(300):
        swing = math.sin(0.7 * step)
        flight.advance(flight.elevator, flight.throttle, 2.0 * swing, 2.0 * math.cos(1.1 * step))
        assert abs(math.degrees(flight.bank)) < 3.0


@BOTH
def test_wings_come_back_to_level(aircraft):
    flight = JSBSimFlight(aircraft)
    flight.start(START)
    flight._fdm["ic/phi-deg"] = 20.0
    flight._fdm.run_ic()
    assert math.degrees(flight.bank) == pytest.approx(20.0)
    for _ in range(50):
        flight.advance(flight.elevator, flight.throttle)
    assert abs(math.degrees(flight.bank)) < 3.0


@BOTH
@pytest.mark.parametrize(("gust_u", "gust_w"), [(3.0, 0.0), (0.0, -2.0), (-4.0, 2.5)])
def test_gusts_move_the_air_along_the_body_in_any_attitude(aircraft, gust_u, gust_w):
    flight = JSBSimFlight(aircraft)
    flight.start(START)
    fdm = flight._fdm
    fdm["ic/psi-true-deg"], fdm["ic/phi-deg"], fdm["ic/theta-deg"] = 130.0, -25.0, 20.0
    fdm.run_ic()
    state = flight.advance(flight.elevator, flight.throttle, gust_u, gust_w, seconds=1 / 120)
    # The gust was turned by the attitude at the beginning of the frame.
    assert fdm["velocities/u-aero-fps"] * FEET == pytest.approx(state.u - gust_u, abs=0.01)
    assert fdm["velocities/w-aero-fps"] * FEET == pytest.approx(state.w - gust_w, abs=0.01)
    assert fdm["velocities/v-aero-fps"] == pytest.approx(fdm["velocities/v-fps"], abs=0.03)
    calm = flight.advance(flight.elevator, flight.throttle)
    assert fdm["velocities/u-aero-fps"] * FEET == pytest.approx(calm.u, abs=1e-9)


@pytest.mark.parametrize("elevator", [-0.17, -0.05, 0.0, 0.05, 0.17])
def test_the_cessna_moves_its_elevator_by_our_angle(elevator):
    flight = JSBSimFlight("c172p")
    flight.start(START)
    flight.advance(elevator, 0.7)
    assert flight._fdm["fcs/elevator-pos-rad"] == pytest.approx(elevator, abs=1e-12)


# Angle of attack [deg] and thrust [lbf] of JSBSim's trim at 5000 ft.
@pytest.mark.parametrize(
    ("feet_per_second", "alpha", "thrust"),
    [(150.0, 2.194, 186.5), (176.0, 0.651, 217.2), (190.0, 0.067, 241.3)],
)
def test_the_cessna_starts_in_jsbsims_trim_and_stays_there(feet_per_second, alpha, thrust):
    flight = JSBSimFlight("c172p")
    airspeed, altitude = feet_per_second * FEET, 5000 * FEET
    # Pitch, angle of attack and pitch rate of the start are left aside.
    state = flight.start(start_at(airspeed, altitude, q=0.05, theta=0.2))
    assert math.degrees(math.atan2(state.w, state.u)) == pytest.approx(alpha, abs=0.01)
    assert state.thrust / GRAVITY / 0.45359237 == pytest.approx(thrust, rel=0.002)
    assert math.hypot(state.u, state.w) == pytest.approx(airspeed, abs=1e-3)
    assert state.load_factor == pytest.approx(1.0, abs=2e-3)
    assert (state.q, state.power) == (0.0, flight.throttle)
    for _ in range(150):
        state = flight.advance(flight.elevator, flight.throttle)
        assert state.altitude == pytest.approx(altitude, abs=0.3)
        assert math.hypot(state.u, state.w) == pytest.approx(airspeed, abs=0.05)
        assert abs(math.degrees(flight.bank)) < 3.0


def test_the_cessnas_engine_runs_and_answers_the_throttle():
    flight = JSBSimFlight("c172p")
    thrusts = []
    for throttle in (0.4, 0.7, 1.0):
        flight.start(START)
        for _ in range(10):
            state = flight.advance(flight.elevator, throttle)
        thrusts.append(state.thrust)
    assert 0.0 < thrusts[0] < thrusts[1] < thrusts[2]


@pytest.mark.parametrize("altitude", [100.0, 2000.0, 3500.0])
def test_the_cessna_holds_every_start_that_is_drawn(altitude):
    flight = JSBSimFlight("c172p")
    for airspeed in (45.0, 53.0, 61.0):
        flight.start(start_at(airspeed, altitude))
        assert 0.5 < flight.throttle < 0.9


def test_a_start_the_cessna_cannot_hold_is_refused(capfd):
    with pytest.raises(ValueError, match=r"airspeed=80 m/s.*altitude=1400 m.*slower"):
        JSBSimFlight("c172p").start(start_at(80.0, 1400.0))


@BOTH
def test_nothing_is_printed_and_nothing_written(aircraft, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fly(JSBSimFlight(aircraft), START, steps=10)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("variable", [None, "1"])
def test_the_settings_of_other_users_of_jsbsim_are_put_back(variable, monkeypatch):
    monkeypatch.delenv("JSBSIM_DEBUG", raising=False)
    if variable is not None:
        monkeypatch.setenv("JSBSIM_DEBUG", variable)
    base = jsbsim.FGJSBBase()
    before = base.debug_lvl
    base.debug_lvl = 1
    try:
        JSBSimFlight().start(START)
        assert base.debug_lvl == 1
        assert os.environ.get("JSBSIM_DEBUG") == variable
    finally:
        base.debug_lvl = before


def test_the_folder_goes_with_the_process():
    code = (
        "from llm_gym_autopilot.jsbsim_models import generated_aircraft_folder as folder;"
        "assert folder() == folder(); print(folder())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert not Path(done.stdout.strip()).exists()
    assert (generated_aircraft_folder() / "navion" / "navion.xml").exists()


def test_a_state_that_is_not_finite_is_an_error():
    flight = JSBSimFlight()
    flight.start(START)
    with pytest.raises(RuntimeError, match="no longer finite"):
        flight.advance(math.nan, 0.5)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"aircraft='spitfire'.*navion, c172p"):
        JSBSimFlight("spitfire")
    with pytest.raises(ValueError, match="rate_hz=0"):
        JSBSimFlight(rate_hz=0)
    flight = JSBSimFlight()
    with pytest.raises(RuntimeError, match="start"):
        flight.advance(0.0, 0.5)
    with pytest.raises(RuntimeError, match="start"):
        _ = flight.bank
    flight.start(START)
    with pytest.raises(ValueError, match=r"seconds=0\.0123 .*1/120 s"):
        flight.advance(0.0, 0.5, seconds=0.0123)


def test_a_missing_jsbsim_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsbsim", None)
    with pytest.raises(ImportError, match=r'pip install "llm-gym-autopilot\[jsbsim\]"'):
        JSBSimFlight()
