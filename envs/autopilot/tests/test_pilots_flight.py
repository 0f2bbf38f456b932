"""How the pilots fly: clicks the right way, targets reached, integrals where they belong."""

import numpy as np
import pytest
from llm_gym_autopilot.pilots import PIDPilot, RulePilot, TrimPilot, TunedRulePilot, load_pilot
from llm_gym_autopilot.single import AutopilotEnv
from llm_gym_autopilot.task import CENTRE_AIRSPEED, OBSERVATION_NAMES

CLICK = np.radians(0.6)


def observe(**values):
    """Level flight on target at half throttle, but for some values, in SI units."""
    scales = {"airspeed": 12.0, "airspeed_error": 6.0, "pitch": 0.2, "pitch_rate": 0.1}
    scales |= {"altitude_error": 30.0, "climb_rate": 6.0, "target_airspeed": 12.0}
    observation = np.zeros(len(OBSERVATION_NAMES), np.float32)
    for name, value in values.items():
        centre = CENTRE_AIRSPEED if name in ("airspeed", "target_airspeed") else 0.0
        observation[OBSERVATION_NAMES.index(name)] = (value - centre) / scales[name]
    return observation


def commands(pilot, **values):
    (stick, lever), _ = pilot.predict(observe(**values))
    return -0.17 * stick, (lever + 1) / 2


@pytest.mark.parametrize(
    ("seen", "elevator", "throttle"),
    [
        ({"pitch": 0.1, "airspeed": 55.0}, CLICK, 0.5),  # push: trailing edge down
        ({"pitch": -0.1, "airspeed": 55.0}, -CLICK, 0.5),
        ({"pitch": 0.1, "airspeed": 40.0}, 0.0, 0.5),  # too slow to push
        ({"pitch": -0.1, "airspeed": 65.0}, 0.0, 0.5),  # too fast to pull
        ({"pitch": 0.03, "airspeed": 55.0}, 0.0, 0.5),
        ({"airspeed_error": 2.0}, 0.0, 0.55),
        ({"airspeed_error": -2.0}, 0.0, 0.45),
        ({"airspeed_error": 0.5}, 0.0, 0.5),
    ],
)
def test_the_rule_clicks_once_and_the_right_way(seen, elevator, throttle):
    clicks = commands(RulePilot(), **seen)
    assert clicks == pytest.approx((elevator, throttle), abs=1e-6)


@pytest.mark.parametrize(
    ("seen", "elevator", "throttle"),
    [
        ({"altitude_error": 30.0}, -CLICK, 0.55),  # too low: nose up, and power to climb
        ({"altitude_error": -30.0}, CLICK, 0.45),
        ({"altitude_error": 30.0, "climb_rate": 6.0}, 0.0, 0.55),  # climbs as wanted
        ({"altitude_error": 30.0, "climb_rate": 10.0}, CLICK, 0.55),
        ({"pitch_rate": 0.03}, CLICK, 0.5),  # still the turning
        ({"airspeed_error": 3.0}, 0.0, 0.55),
        ({"target_airspeed": 45.0}, 0.0, 0.45),
        ({}, 0.0, 0.5),
    ],
)
def test_the_tuned_rule_works_through_its_list(seen, elevator, throttle):
    pilot = TunedRulePilot(
        altitude_time=5.0,
        climb_limit=6.0,
        turn_rate=0.01,
        rate_limit=0.05,
        rate_band=0.01,
        cruise_throttle=0.5,
        airspeed_throttle=0.01,
        error_throttle=0.1,
        climb_throttle=0.05,
        throttle_band=0.03,
    )
    clicks = commands(pilot, **seen)
    assert clicks == pytest.approx((elevator, throttle), abs=1e-6)


def test_trim_holds_level_flight_at_the_target_speed():
    env = AutopilotEnv(turbulence="none")
    level = {"altitude": 1400.0, "airspeed": 55.0, "target_airspeed": 55.0, "trimmed": True}
    observation, _ = env.reset(seed=0, options={**level, "target_altitude": 1400.0})
    pilot = TrimPilot()
    for _ in range(100):
        observation, *_, info = env.step(pilot.predict(observation)[0])
    assert info["altitude_error_m"] == pytest.approx(0.0, abs=0.1)
    assert info["airspeed_error_mps"] == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("name", ["pid", "lqr", "tuned-rule"])
@pytest.mark.parametrize(("step", "target_airspeed"), [(80.0, 48.0), (-80.0, 59.0)])
def test_a_step_of_altitude_and_speed_is_flown_and_held(name, step, target_airspeed):
    env = AutopilotEnv(turbulence="none")
    options = {
        "altitude": 1200.0,
        "airspeed": 54.0,
        "target_altitude": 1200.0 + step,
        "target_airspeed": target_airspeed,
        "trimmed": True,
    }
    observation, _ = env.reset(seed=0, options=options)
    pilot, state = load_pilot(name), None
    errors = []
    for _ in range(300):
        action, state = pilot.predict(observation, state)
        observation, *_, info = env.step(action)
        errors.append((info["altitude_error_m"], info["airspeed_error_mps"]))
    assert info["cause"] is None
    altitude, airspeed = np.abs(errors[-50:]).max(axis=0)
    assert altitude < 3.0
    assert airspeed < 1.5
    passed = -np.sign(step) * np.array(errors)[:, 0]
    assert passed.max() < 20.0  # beyond the target


def test_a_pid_begins_with_the_hands_where_they_were():
    observation = observe()
    observation[OBSERVATION_NAMES.index("elevator_command")] = 0.4  # 0.04 rad
    observation[OBSERVATION_NAMES.index("throttle_command")] = 0.3  # 0.65
    (stick, lever), _ = PIDPilot().predict(observation)
    assert -0.17 * stick == pytest.approx(0.04, abs=1e-7)
    assert (lever + 1) / 2 == pytest.approx(0.65, abs=1e-7)


def throttle_after(pilot, errors):
    """Throttle after a sequence of speed errors [m/s]."""
    state = None
    for error in errors:
        (_, lever), state = pilot.predict(observe(airspeed_error=error), state)
    return (lever + 1) / 2


def test_the_throttles_integral_stands_still_while_the_throttle_is_at_its_stop():
    pilot = PIDPilot(speed_p=0.1, speed_i=0.02, speed_filter=1e-3)
    # At 6 m/s too slow the throttle is at its stop at once; afterwards no surplus must be left.
    assert throttle_after(pilot, [6.0] * 200) == pytest.approx(1.0)
    assert throttle_after(pilot, [6.0] * 200 + [0.0]) == pytest.approx(0.5, abs=1e-6)
    # Away from the stops it integrates: 0.02 * 1 m/s * 2 s.
    assert throttle_after(pilot, [1.0] * 10 + [0.0]) == pytest.approx(0.54, abs=1e-6)


def test_the_wanted_pitchs_integral_stays_within_its_limit():
    pilot = PIDPilot(climb_i=0.05, pitch_limit=0.1, altitude_p=0.0, climb_p=0.0)
    state = None
    for _ in range(100):
        _, state = pilot.predict(observe(climb_rate=-10.0), state)
    assert state[0][0, 1] == pytest.approx(0.1)
