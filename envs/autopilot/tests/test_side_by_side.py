"""Several flights on one film: they meet the same weather, and each is the flight flown alone."""

from __future__ import annotations

import re

import gymnasium as gym
import llm_gym_autopilot.pilots
import numpy as np
import pytest

typer = pytest.importorskip("typer")

from llm_gym_autopilot.aircraft import NAVION  # noqa: E402
from llm_gym_autopilot.checkpoints import pilot_file, pilots_of_run  # noqa: E402
from llm_gym_autopilot.command import fly  # noqa: E402
from llm_gym_autopilot.flown import CTRL_C, Flight  # noqa: E402
from llm_gym_autopilot.pilots import load_pilot  # noqa: E402
from llm_gym_autopilot.rendering import CockpitFrame  # noqa: E402
from llm_gym_autopilot.rendering.formation import (  # noqa: E402
    MOST_LANES,
    Formation,
    FormationFrame,
    Lane,
    formation_line,
)
from llm_gym_autopilot.rendering.side_view import HEIGHT  # noqa: E402
from llm_gym_autopilot.telemetry import Telemetry  # noqa: E402


def rows(text):
    """The table's cells, one row a flight, by agent and seed."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("agent  "))
    cells = [re.split(r"  +", line) for line in lines[start + 1 :]]
    return {(cell[0], cell[1]): cell[2:] for cell in cells if len(cell) == 9}


def test_each_flight_is_the_one_flown_alone(capsys):
    common = {"seed": 3, "episodes": 2, "turbulence": "moderate", "human": False}
    fly(agents="rule, pid,trim", **common)
    together = rows(capsys.readouterr().out)
    assert list(together) == [(a, s) for s in ("3", "4") for a in ("rule", "pid", "trim")]
    fly("pid", **common)
    alone = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [together["pid", cells[0]] for cells in alone] == [cells[1:] for cells in alone]


def test_a_flight_that_was_stopped_is_no_success():
    env = gym.make("llm_gym/Autopilot-v0", turbulence="none", max_episode_steps=2)
    flight = Flight(env, load_pilot("trim"), 3, {})
    for stopped, seconds in ((CTRL_C, 0.2), (None, 0.4)):
        flight.step()
        flight._info["is_success"] = True  # as after 15 s on target
        result = flight.result(stopped)
        assert result.success == result.finished == (stopped is None)
        assert result.seconds == pytest.approx(seconds)
        assert np.isnan(result.altitude_rms_m) == (stopped is not None)


class Diver:
    """Pushes and never lets go, so that its flight ends soon."""

    discrete = False

    def __init__(self, stick):
        self.stick = stick

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return np.array([self.stick, 1.0], dtype=np.float32), state


class Clicker(Diver):
    discrete = True

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return np.array(self.stick), state


@pytest.fixture
def more_pilots(monkeypatch):
    known = {"steep": Diver(-1.0), "shallow": Diver(-0.2), "clicker": Clicker(4)}

    def load(name):
        return known[name] if name in known else load_pilot(name)

    monkeypatch.setattr(llm_gym_autopilot.pilots, "load_pilot", load)


@pytest.mark.usefixtures("more_pilots")
def test_a_pilot_of_clicks_flies_beside_others(capsys):
    fly(agents="clicker,steep", seed=1, turbulence="none", human=False)
    flown = rows(capsys.readouterr().out)
    assert flown["clicker", "1"][-1] == "0.00 deg/step"
    assert float(flown["steep", "1"][1]) < float(flown["clicker", "1"][1]) == 60


@pytest.mark.usefixtures("more_pilots")
def test_the_film_goes_on_until_the_last_has_ended(capsys, tmp_path):
    pytest.importorskip("pygame")
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "flights.gif"
    fly(agents="steep,shallow", seed=1, turbulence="none", record=path)
    out = capsys.readouterr().out
    seconds = {agent: float(cells[1]) for (agent, _), cells in rows(out).items()}
    assert seconds["steep"] < seconds["shallow"] < 20
    assert f"film: {path} (" in out
    with image.open(path) as film:
        assert film.n_frames == 5 * seconds["shallow"] + 1
        assert film.size == (600, 2 * 122 + 26)


@pytest.mark.usefixtures("more_pilots")
def test_without_a_film_all_are_read_aloud_once_a_second(capsys):
    fly(agents="shallow,steep", seed=1, turbulence="none", human=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("t ")]
    assert [line.split()[1] for line in lines[:4]] == ["0.0", "1.0", "2.0", "3.0"]
    assert re.fullmatch(r"t 0\.0 s \| shallow error [+-]\d+ m \| steep error [+-]\d+ m", lines[0])
    assert re.search(r"steep error [+-]\d+ m, ended by \w+", lines[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"agents": "pid"}, "--agents='pid' must be 2 to 6"),
        ({"agents": "pid,pid"}, "--agents='pid,pid' must be 2 to 6"),
        ({"agents": "pid,,lqr"}, "--agents='pid,,lqr' must be"),
        ({"agents": ",".join("abcdefg")}, "must be 2 to 6"),
        ({"agents": "pid,lqr", "agent": "pid"}, "--agent and --agents exclude each other"),
        ({"agents": "pid,nobody"}, "'nobody' must be one of"),
        ({"checkpoints": "."}, "holds no pilots of a training run"),
    ],
)
def test_mistakes_name_the_option(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "checkpoints" in arguments:
        arguments = {"checkpoints": tmp_path}
    with pytest.raises(ValueError, match=re.escape(message)):
        fly(**arguments, human=False)


# ------------------------------------------------------------------ what a run could do when


def keep_pilots(run, steps):
    for step in steps:
        load_pilot("ppo").save(pilot_file(run, step))


def test_the_looks_of_a_run_are_flown_oldest_first(tmp_path, capsys):
    keep_pilots(tmp_path, [100_352, 0])
    (tmp_path / "trace" / "look-000000000000.safetensors").write_bytes(b"of something else")
    fly(checkpoints=tmp_path, seed=2, turbulence="none", human=False)
    flown = rows(capsys.readouterr().out)
    assert [agent for agent, _ in flown] == ["after 0 steps", "after 100,352 steps"]
    fly("ppo", seed=2, turbulence="none", human=False)
    alone = re.split(r"  +", capsys.readouterr().out.splitlines()[-1])
    assert flown["after 0 steps", "2"] == alone[1:]


def test_of_many_looks_some_are_flown_with_the_first_and_the_last(tmp_path):
    keep_pilots(tmp_path, range(0, 1100, 100))
    said = []
    chosen = pilots_of_run(tmp_path, 6, said.append)
    assert [name.split()[1] for name in chosen] == ["0", "200", "400", "600", "800", "1,000"]
    assert said == ["6 of 11 looks at the run are flown"]
    with pytest.raises(FileNotFoundError, match="there is no such directory"):
        pilots_of_run(tmp_path / "missing", 6, said.append)


# ------------------------------------------------------------------ the picture


def lane(name, altitude, cause=None):
    telemetry = Telemetry(
        altitude, 53.0, 0.0, 0.0, 2.0, 0.0, 1.0, 0.0, 0.6, 0.6, 2000.0, 1500.0, 55.0,
        1500.0 - altitude, 2.0, 0.0, 0.0,
    )  # fmt: skip
    frame = CockpitFrame.at(
        telemetry, limits=NAVION, turbulence="none", time_s=1.0, path=[(0.8, altitude)], cause=cause
    )
    return Lane(name, frame, 1.0)


@pytest.fixture(scope="module")
def drawn():
    pytest.importorskip("pygame")
    formation = Formation(2)

    def draw(first, second):
        picture = formation.draw(FormationFrame([first, second], 0)).astype(int)
        return picture[: int(HEIGHT)], picture[int(HEIGHT) + 2 : 2 * int(HEIGHT) + 2]

    return draw


def test_lanes_are_alike_where_flights_are(drawn):
    upper, lower = drawn(lane("pid", 1480.0), lane("pid", 1480.0))
    np.testing.assert_array_equal(upper, lower)


def test_names_tell_lanes_apart_and_nothing_else_does(drawn):
    upper, lower = drawn(lane("pid", 1480.0), lane("rule", 1480.0))
    differing = np.argwhere((upper != lower).any(axis=2))
    assert len(differing) > 20
    assert differing.max(axis=0)[1] < 120  # in the box with the name
    assert differing.max(axis=0)[0] < 30


def test_flights_share_one_scale_of_altitude(drawn):
    near, _ = drawn(lane("pid", 1500.0), lane("rule", 1500.0))
    beside_far, _ = drawn(lane("pid", 1500.0), lane("rule", 1300.0))
    assert (near != beside_far).any()  # its scale has changed with the other's
    beside_ended, _ = drawn(lane("pid", 1500.0), lane("rule", 1300.0, cause="altitude"))
    np.testing.assert_array_equal(near, beside_ended)  # who has ended sets no scale


def test_a_flight_that_has_ended_is_darker_and_says_why(drawn):
    flying, ended = drawn(lane("pid", 1500.0), lane("pid", 1500.0, cause="overspeed"))
    assert ended.mean() < 0.75 * flying.mean()
    frame = FormationFrame([lane("pid", 1502.4), lane("x", 1500.0, cause="load_factor")], 0)
    assert formation_line(frame) == (
        "t 1.0 s | pid error -2 m | x error +0 m, ended by load factor"
    )
    assert frame.cause is None


def test_how_many_lanes_there_may_be():
    with pytest.raises(ValueError, match="lanes=0 must be from 1 to 6"):
        Formation(0)
    with pytest.raises(ValueError, match="lanes=7"):
        Formation(MOST_LANES + 1)
