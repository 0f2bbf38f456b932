"""`llm-gym fly`, from the command line and as a function, with pilots made for the test."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import llm_gym_autopilot.pilots
import numpy as np
import pytest

typer = pytest.importorskip("typer")

from llm_gym_autopilot import command  # noqa: E402
from llm_gym_autopilot.command import FlightResult, fly, format_results  # noqa: E402
from llm_gym_autopilot.rendering import watchers  # noqa: E402
from typer.testing import CliRunner  # noqa: E402


class Cautious:
    """Holds stick and throttle and keeps count of what it is asked, as SB3's models are."""

    discrete = False

    def __init__(self):
        self.starts = []
        self.states = []

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        assert observation.shape == (11,)
        assert deterministic
        self.starts.append(bool(episode_start[0]))
        self.states.append(state)
        stick = -0.1 / 0.17 * observation[8]  # the last elevator command
        return np.array([stick, observation[9]], dtype=np.float32), len(self.starts)


class Diver(Cautious):
    def predict(self, *arguments, **keywords):
        _, state = super().predict(*arguments, **keywords)
        return np.array([-1.0, 1.0], dtype=np.float32), state


class Clicker(Cautious):
    discrete = True

    def predict(self, *arguments, **keywords):
        _, state = super().predict(*arguments, **keywords)
        return np.array(4), state


class Interrupter(Cautious):
    def predict(self, *arguments, **keywords):
        if len(self.starts) == 20:
            raise KeyboardInterrupt
        return super().predict(*arguments, **keywords)


PILOTS = {"cautious": Cautious, "diver": Diver, "clicker": Clicker, "interrupter": Interrupter}


@pytest.fixture(autouse=True)
def pilots(monkeypatch):
    """Replaces the loading of pilots; gives those that were made."""
    made = []

    def load_pilot(name):
        if name not in PILOTS:
            raise ValueError(f"agent={name!r} is unknown")
        made.append(PILOTS[name]())
        return made[-1]

    monkeypatch.setattr(llm_gym_autopilot.pilots, "load_pilot", load_pilot, raising=False)
    return made


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    monkeypatch.setattr(command, "has_display", lambda: False)


@pytest.fixture
def run():
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(fly)

    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


def frames_of(path):
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as film:
        return film.n_frames


# ------------------------------------------------------------------ a flight


def test_without_a_display_instruments_are_read_once_a_second(run, pilots):
    done = run("--agent", "cautious", "--turbulence", "none", "--seed", 3)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    readings = [line for line in lines if line.startswith("t ")]
    seconds = [float(re.match(r"t ([\d.]+) s", line)[1]) for line in readings]
    assert seconds == [float(second) for second in range(len(seconds))]
    assert len(seconds) > 5
    assert "no display" in done.stderr
    assert lines[-3] == "agent cautious"
    assert lines[-2].split() == [
        "seed", "turbulence", "seconds", "return", "success", "ended", "by", "altitude", "rms",
        "elevator",
    ]  # fmt: skip
    assert lines[-1].startswith("3     none")
    [pilot] = pilots
    assert pilot.starts == [True] + [False] * (len(pilot.starts) - 1)
    assert pilot.states[:3] == [None, 1, 2]  # what it returned comes back to it


def test_headless_on_purpose_needs_no_notice(run):
    done = run("--agent", "diver", "--headless", "--seed", 1)
    assert done.exit_code == 0
    assert done.stderr == ""


@pytest.mark.parametrize(("agent", "action"), [("diver", [-1.0, 1.0]), ("clicker", 4)])
def test_the_table_is_what_the_environment_told(capsys, agent, action):
    """Flown again by hand."""
    import gymnasium as gym

    options = {"target_airspeed": 50.0, "target_altitude": 1500.0}
    fly(agent, seed=5, turbulence="light", human=False, **options)
    row = capsys.readouterr().out.splitlines()[-1]
    name = "AutopilotDiscrete" if agent == "clicker" else "Autopilot"
    env = gym.make(f"llm_gym/{name}-v0", turbulence="light")
    _, info = env.reset(seed=5, options=options)
    elevators, errors, rewards, done = [info["elevator_deg"]], [], [], False
    while not done:
        action = np.array(action, dtype=np.float32) if isinstance(action, list) else action
        _, reward, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        rewards.append(reward)
        errors.append(info["altitude_error_m"])
        elevators.append(info["elevator_deg"])
    rms = math.sqrt(sum(error**2 for error in errors[-150:]) / 150)
    moved = sum(abs(b - a) for a, b in pairwise(elevators)) / len(errors)
    assert (info["cause"] is None) == (agent == "clicker")
    assert re.split(r"  +", row) == [
        "5", "light", f"{len(rewards) / 5:.1f}", f"{sum(rewards):.1f}", "no",
        (info["cause"] or "time limit").replace("_", " "),
        f"{rms:.1f} m" if info["cause"] is None else "-", f"{moved:.2f} deg/step",
    ]  # fmt: skip


def test_words_are_told_beside_the_instruments(run, monkeypatch):
    pid = llm_gym_autopilot.pilots.PIDPilot()
    monkeypatch.setattr(llm_gym_autopilot.pilots, "load_pilot", lambda name: pid)
    result = run("--agent", "pid", "--words", "--headless", "--turbulence", "none")
    assert result.exit_code == 0
    told = [line for line in result.stdout.splitlines() if " -> " in line]
    assert len(told) == 60  # once a second; before the first there is nothing to tell
    assert re.fullmatch(r"  (low|high) \d+ .* throttle \d+ -> (hold|stick .*|throttle .*)", told[0])


def test_flights_follow_each_other(run, pilots):
    done = run("--agent", "diver", "--episodes", 3, "--seed", 7, "--headless")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[-3:]] == ["7", "8", "9"]
    assert sum(pilots[0].starts) == 3


def test_targets_are_flown(run):
    done = run(
        "--agent", "diver", "--target-altitude", 1500, "--target-airspeed", 50.5, "--headless"
    )
    assert "(target 1500, error" in done.stdout
    assert "(target 50.5, error" in done.stdout


def test_a_pilot_of_clicks_gets_its_own_environment(run):
    done = run("--agent", "clicker", "--headless", "--turbulence", "none")
    assert done.exit_code == 0, done.output
    assert "0.00 deg/step" in done.stdout.splitlines()[-1]


# ------------------------------------------------------------------ films


@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_a_film_of_a_flight(run, tmp_path, suffix, pilots):
    pytest.importorskip("pygame")
    path = tmp_path / f"flight.{suffix}"
    done = run("--agent", "diver", "--record", path, "--speed", 4)
    assert done.exit_code == 0, done.output
    steps = len(pilots[0].starts)
    assert f"film: {path} ({steps + 1} pictures, " in done.stdout
    assert "t 0.0 s" not in done.stdout  # a film is not read aloud
    assert done.stderr == ""
    if suffix == "gif":
        assert frames_of(path) == steps + 1
    else:
        about = pytest.importorskip("imageio_ffmpeg").read_frames(str(path)).__next__()
        assert about["fps"] == 20.0


def test_ctrl_c_leaves_a_film_of_what_was_flown(run, tmp_path):
    pytest.importorskip("pygame")
    path = tmp_path / "flight.gif"
    done = run("--agent", "interrupter", "--record", path)
    assert done.exit_code == 130
    assert frames_of(path) == 21
    assert "  4.0      " in done.stdout.splitlines()[-2]
    assert "  no       Ctrl-C    " in done.stdout.splitlines()[-2]
    assert [path.name for path in tmp_path.iterdir()] == ["flight.gif"]


@pytest.mark.filterwarnings("error")
def test_ctrl_c_before_anything_was_flown(run, tmp_path, monkeypatch):
    pytest.importorskip("pygame")

    class Never(Cautious):
        def predict(self, *arguments, **keywords):
            raise KeyboardInterrupt

    monkeypatch.setitem(PILOTS, "never", Never)
    done = run("--agent", "never", "--record", tmp_path / "flight.gif", "--episodes", 3)
    assert done.exit_code == 130
    assert frames_of(tmp_path / "flight.gif") == 1
    assert done.stdout.splitlines()[2].split()[2:] == [
        "0.0", "0.0", "no", "Ctrl-C", "-", "0.00", "deg/step",
    ]  # fmt: skip


def test_a_wrong_suffix_is_told_before_anything_is_loaded(tmp_path, pilots):
    with pytest.raises(ValueError, match=r"must end in \.gif or \.mp4"):
        fly("cautious", record=tmp_path / "flight.avi")
    assert pilots == []


# ------------------------------------------------------------------ the window


@pytest.fixture
def dummy_window(monkeypatch):
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(watchers, "LAST_PICTURES", 1)
    yield pygame
    pygame.display.quit()


def test_a_window_shows_the_flight_and_closes(run, dummy_window):
    done = run("--agent", "diver", "--human", "--speed", 1000)
    assert done.exit_code == 0, done.output
    assert not dummy_window.display.get_init()
    assert "t 0.0 s" not in done.stdout


def test_closing_the_window_ends_the_flights(run, dummy_window, monkeypatch, pilots):
    class Bored(Diver):
        def predict(self, *arguments, **keywords):
            if len(self.starts) == 5:
                dummy_window.event.post(dummy_window.event.Event(dummy_window.QUIT))
            return super().predict(*arguments, **keywords)

    monkeypatch.setitem(PILOTS, "bored", Bored)
    done = run("--agent", "bored", "--human", "--speed", 1000, "--episodes", 5)
    assert done.exit_code == 0, done.output
    assert len(pilots[0].starts) == 6
    assert "  no       window closed  " in done.stdout.splitlines()[-1]
    assert len(done.stdout.splitlines()) == 3


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": 0}, "--episodes=0"),
        ({"seed": -1}, "--seed=-1"),
        ({"speed": 0.0}, "--speed=0.0"),
        ({"speed": math.nan}, "--speed=nan"),
        ({"agent": "nobody"}, "'nobody' is unknown"),
        ({"aircraft": "c172p"}, "add --jsbsim"),
        ({"aircraft": "jumbo"}, "aircraft='jumbo'"),
        ({"turbulence": "awful"}, "turbulence='awful'"),
        ({"target_airspeed": 900.0}, "target_airspeed"),
    ],
)
def test_mistakes_name_the_option(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fly(**{"agent": "cautious", "human": False} | arguments)


def test_help_says_what_agents_there_are(run):
    done = run("--help")
    assert done.exit_code == 0
    for word in ("tuned-rule", "--record", "--jsbsim", "--turbulence", "--headless"):
        assert word in done.output


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("darwin", {}, True),
        ("win32", {}, True),
    ],
)
def test_where_there_is_a_display(monkeypatch, platform, variables, expected):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(watchers.sys, "platform", platform)
    assert watchers.has_display() is expected


def test_table():
    flown = FlightResult(0, "none", 60.0, 261.26, True, None, True, None, 3.44, 0.071)
    ended = FlightResult(1, "moderate", 5.4, 9.9, False, "load_factor", True, None, math.nan, 1.5)
    assert format_results("pid", [flown, ended]).splitlines() == [
        "agent pid",
        "seed  turbulence  seconds  return  success  ended by     altitude rms  elevator",
        "0     none        60.0     261.3   yes      time limit   3.4 m         0.07 deg/step",
        "1     moderate    5.4      9.9     no       load factor  -             1.50 deg/step",
    ]
