"""Pictures of the cockpit: what must be where, at the corners of the flight envelope too."""

from __future__ import annotations

import itertools
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled, UnsupportedMode
from llm_gym_autopilot.aircraft import NAVION
from llm_gym_autopilot.rendering import Cockpit, CockpitFrame, palette
from llm_gym_autopilot.rendering.frame import stall_airspeed
from llm_gym_autopilot.rendering.side_view import HEIGHT, TOP, SideView
from llm_gym_autopilot.rendering.tapes import digit_places
from llm_gym_autopilot.telemetry import Telemetry

pygame = pytest.importorskip("pygame")

CENTRE_Y = 126  # of the horizon and the tapes


def telemetry(**values) -> Telemetry:
    usual = {
        "altitude_m": 1500.0, "airspeed_mps": 53.0, "climb_mps": 0.0, "pitch_deg": 0.0,
        "alpha_deg": 1.0, "pitch_rate_dps": 0.0, "load_factor": 1.0, "elevator_deg": 0.0,
        "throttle": 0.6, "power": 0.6, "thrust_n": 2000.0, "target_altitude_m": 1500.0,
        "target_airspeed_mps": 53.0, "gust_mps": 0.0, "gust_longitudinal_mps": 0.0,
    } | values  # fmt: skip
    usual["altitude_error_m"] = usual["target_altitude_m"] - usual["altitude_m"]
    usual["airspeed_error_mps"] = usual["target_airspeed_mps"] - usual["airspeed_mps"]
    return Telemetry(**usual)


def frame(*, path=(), turbulence="none", time_s=0.0, reward=0.5, cause=None, **values):
    return CockpitFrame.at(
        telemetry(**values),
        limits=NAVION,
        turbulence=turbulence,
        time_s=time_s,
        path=path,
        reward=reward,
        cause=cause,
    )


@pytest.fixture(scope="module")
def cockpit():
    return Cockpit()


def near(picture, color, tolerance=40):
    """Pixels of about a colour, bool `(height, width)`."""
    return (np.abs(picture.astype(int) - np.array(color[:3])) <= tolerance).all(axis=2)


def rows_of(mask):
    return np.flatnonzero(mask.any(axis=1))


# ------------------------------------------------------------------ the picture


def test_a_picture_is_an_array_of_its_own(cockpit):
    first = cockpit.draw(frame())
    kept = first.copy()
    assert first.shape == (400, 600, 3)
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 500
    cockpit.draw(frame(pitch_deg=20.0, altitude_m=900.0))
    assert (first == kept).all()


def test_a_picture_depends_on_its_frame_only(cockpit):
    picture = cockpit.draw(frame(altitude_m=1432.1))
    tilted = cockpit.draw(frame(altitude_m=2000.0, pitch_deg=-10.0))
    assert (picture != tilted).any()
    assert (cockpit.draw(frame(altitude_m=1432.1)) == picture).all()
    assert (Cockpit().draw(frame(altitude_m=1432.1)) == picture).all()


def test_drawing_needs_and_opens_no_display(cockpit, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "there-is-no-such-driver")
    Cockpit().draw(frame())
    assert not pygame.display.get_init()


def test_other_sizes(cockpit):
    large = Cockpit(1200, 800).draw(frame(pitch_deg=5.0))
    assert large.shape == (800, 1200, 3)
    small = cockpit.draw(frame(pitch_deg=5.0)).astype(float)
    halved = large.reshape(400, 2, 600, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - small).mean() < 3
    assert Cockpit(300, 200).draw(frame()).shape == (200, 300, 3)


@pytest.mark.parametrize("size", [(600, 600), (150, 100), (0, 0)])
def test_impossible_sizes(size):
    with pytest.raises(ValueError, match=f"width={size[0]}, height={size[1]}"):
        Cockpit(*size)


# ------------------------------------------------------------------ what it shows


@pytest.mark.parametrize("error", [-60.0, 0.0, 35.0, 80.0])
def test_altitude_bug_is_at_the_target(cockpit, error):
    picture = cockpit.draw(frame(target_altitude_m=1500.0 + error))
    rows = rows_of(near(picture[26:226, 334:341], palette.TARGET)) + 26
    assert rows.mean() == pytest.approx(CENTRE_Y - error, abs=1.5)


@pytest.mark.parametrize("error", [-12.0, 0.0, 8.0])
def test_airspeed_bug_is_at_the_target(cockpit, error):
    picture = cockpit.draw(frame(target_airspeed_mps=53.0 + error))
    rows = rows_of(near(picture[26:226, 71:78], palette.TARGET)) + 26
    assert rows.mean() == pytest.approx(CENTRE_Y - 5 * error, abs=1.5)


@pytest.mark.parametrize(("error", "row"), [(300.0, 36), (-300.0, 216)])
def test_a_bug_beyond_the_tape_waits_at_its_end(cockpit, error, row):
    picture = cockpit.draw(frame(target_altitude_m=1500.0 + error))
    rows = rows_of(near(picture[:252, 334:341], palette.TARGET))
    assert rows.mean() == pytest.approx(row, abs=1.5)


@pytest.mark.parametrize("pitch", [-15.0, 0.0, 10.0])
def test_the_horizon_is_where_the_pitch_puts_it(cockpit, pitch):
    column = cockpit.draw(frame(pitch_deg=pitch))[:252, 90].astype(int)
    is_sky = column[:, 2] > column[:, 0]
    assert is_sky.sum() == pytest.approx(CENTRE_Y + 5 * pitch, abs=2)
    assert is_sky[: is_sky.sum()].all()


@pytest.mark.parametrize("pitch", [-46.0, 46.0])
def test_some_sky_and_some_earth_stay_in_sight(cockpit, pitch):
    column = cockpit.draw(frame(pitch_deg=pitch))[:252, 90].astype(int)
    is_sky = column[:, 2] > column[:, 0]
    assert 15 < is_sky.sum() < 237


def test_the_target_line_crosses_the_side_view_and_the_path_meets_it(cockpit):
    path = [(0.2 * i, 1400.0 + i) for i in range(101)]
    picture = cockpit.draw(frame(path=path, time_s=20.0))
    assert near(picture[313:316, 10:20], palette.TARGET).any()
    view = SideView(1500.0, [altitude for _, altitude in path])
    x, y = 400 - 10 * (20 - 10), view.height(1450.0)
    assert near(picture[round(y) - 2 : round(y) + 3, x - 1 : x + 2], palette.AIRCRAFT).any()


def test_side_view_keeps_the_target_in_the_middle_and_all_in_sight():
    view = SideView(1500.0, [1195.0, 1500.0, 1600.0])
    assert view.height(1500.0) == TOP + HEIGHT / 2
    assert TOP < view.height(1600.0) < view.height(1500.0) < view.height(1195.0) < TOP + HEIGHT
    assert SideView(1500.0, []).span == 50.0


def red_in_warning_place(picture):
    return near(picture[8:30, 100:312], palette.WARNING).sum()


@pytest.mark.parametrize(
    "values",
    [
        {"alpha_deg": 13.0},
        {"airspeed_mps": 25.0},
        {"airspeed_mps": 83.0},
        {"cause": "load_factor"},
    ],
)
def test_danger_is_shown_in_red(cockpit, values):
    assert red_in_warning_place(cockpit.draw(frame())) == 0
    assert red_in_warning_place(cockpit.draw(frame(**values))) > 500


def test_the_stall_band_rises_with_altitude(cockpit):
    def red_rows(altitude):
        picture = cockpit.draw(
            frame(airspeed_mps=30.0, altitude_m=altitude, target_altitude_m=altitude)
        )
        return near(picture[26:226, 66:69], palette.WARNING).all(axis=1).sum()

    assert red_rows(3000.0) > red_rows(0.0) > 50


def test_stall_airspeed():
    assert stall_airspeed(NAVION, 0.0) == pytest.approx(93 * 0.3048, abs=0.15)
    assert stall_airspeed(NAVION, 3000.0) / stall_airspeed(NAVION, 0.0) == pytest.approx(
        0.7423**-0.5, abs=1e-3
    )


def test_stall_airspeed_without_coefficients():
    class Other:
        minimum_airspeed = 24.0

    assert stall_airspeed(Other(), 1000.0) == 24.0


def test_an_unknown_reward_is_left_out(cockpit):
    with_reward = cockpit.draw(frame(reward=0.9))[376:, 400:]
    without = cockpit.draw(frame(reward=None))[376:, 400:]
    assert near(with_reward, palette.GOOD).any()
    assert near(without, palette.PANEL, 4).all()


CORNERS = list(
    itertools.product(
        (0.0, 999.96, 3000.0),
        (24.0, 85.0),
        (-46.0, 0.0, 46.0),
        (-305.0, 305.0),
    )
)


@pytest.mark.parametrize("corner", CORNERS, ids=str)
def test_the_corners_of_the_envelope(cockpit, corner):
    altitude, airspeed, pitch, error = corner
    picture = cockpit.draw(
        frame(
            altitude_m=altitude, airspeed_mps=airspeed, pitch_deg=pitch,
            target_altitude_m=altitude + error, target_airspeed_mps=109.0 - airspeed,
            climb_mps=np.sign(pitch) * 60.0, alpha_deg=np.sign(pitch) * 40.0,
            elevator_deg=-np.sign(pitch) * 9.74, throttle=1.0, power=0.0, load_factor=-1.52,
            gust_mps=-15.0, gust_longitudinal_mps=15.0, turbulence="moderate", reward=1.0,
            path=[(0.2 * i, altitude + error * (1 - i / 300)) for i in range(301)], time_s=60.0,
        )
    )  # fmt: skip
    # Captions, the target's label and both readouts stay in front of everything else.
    for box in ((slice(5, 23), slice(9, 69)), (slice(5, 23), slice(343, 407))):
        inside = picture[box]
        assert near(inside, palette.TARGET).sum() > 20
        assert (near(inside, palette.TARGET, 200) | near(inside, palette.BLACK, 60)).all()
    assert near(picture[306:323, 544:596], palette.TARGET).sum() > 20
    for columns in (slice(45, 53), slice(394, 402)):
        assert near(picture[116:136, columns], palette.TEXT).sum() > 10


# ------------------------------------------------------------------ rolling digits


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (53.0, 2, [(5, 0.0), (3, 0.0)]),
        (53.25, 2, [(5, 0.0), (3, 0.25)]),
        (59.5, 2, [(5, 0.5), (9, 0.5)]),
        (1999.5, 4, [(1, 0.5), (9, 0.5), (9, 0.5), (9, 0.5)]),
        (1989.5, 4, [(1, 0.0), (9, 0.0), (8, 0.5), (9, 0.5)]),
        (-3.0, 2, [(0, 0.0), (0, 0.0)]),
    ],
)
def test_digits_roll_like_a_counter(value, digits, expected):
    assert digit_places(value, digits) == expected


# ------------------------------------------------------------------ window


@pytest.fixture
def dummy_display(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    yield
    pygame.display.quit()


def test_window_shows_until_its_user_closes_it(dummy_display):
    cockpit = Cockpit()
    cockpit.show(frame(), 0)
    assert pygame.display.get_surface().get_size() == (600, 400)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)
    assert (shown == cockpit.draw(frame())).all()
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    cockpit.show(frame(), 0)
    assert cockpit.closed_by_user
    assert not pygame.display.get_init()
    cockpit.show(frame(), 0)
    assert not pygame.display.get_init()
    cockpit.close()
    cockpit.close()


def test_no_display_is_an_error_that_says_what_works(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "there-is-no-such-driver")
    with pytest.raises(UnsupportedMode, match='"rgb_array" or "ansi"'):
        Cockpit().show(frame())


def test_a_window_that_nobody_can_see_counts_only_if_asked_for(dummy_display, monkeypatch):
    Cockpit().show(frame(), 0)
    pygame.display.quit()
    monkeypatch.delenv("SDL_VIDEODRIVER")
    monkeypatch.setattr(pygame.display, "get_driver", lambda: "offscreen")
    monkeypatch.setattr(pygame.display, "set_mode", pygame.Surface)
    with pytest.raises(UnsupportedMode, match="there is no display"):
        Cockpit().show(frame(), 0)
    assert not pygame.display.get_init()


def test_without_pygame_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(DependencyNotInstalled, match=r"llm-gym-autopilot\[render\]"):
        Cockpit()


# ------------------------------------------------------------------ the environment


def make(mode):
    return gym.make("llm_gym/Autopilot-v0", render_mode=mode, turbulence="moderate")


def test_environment_renders_pictures():
    env = make("rgb_array")
    env.reset(seed=1)
    first = env.render()
    for _ in range(5):
        _, _, _, _, info = env.step(np.zeros(2, dtype=np.float32))
    picture = env.render()
    assert picture.shape == (400, 600, 3)
    assert (picture != first).any()
    flight = env.unwrapped
    seen = CockpitFrame.of(flight)
    assert seen.telemetry.altitude_m == info["altitude_m"]
    assert seen.time_s == pytest.approx(1.0)
    assert [time for time, _ in seen.path] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert seen.turbulence == "moderate"
    assert (picture == Cockpit().draw(seen)).all()
    env.close()


def test_environment_shows_a_window(dummy_display):
    env = make("human")
    env.reset(seed=1)
    env.step(np.zeros(2, dtype=np.float32))
    assert pygame.display.get_init()
    env.close()
    assert not pygame.display.get_init()
