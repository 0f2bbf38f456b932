"""Flights of a run on the page, and in its file."""

from __future__ import annotations

import numpy as np
import pytest
from fastapi.testclient import TestClient

from llm_gym.feedback.labelling.guard import TOKEN_HEADER
from llm_gym.files.owned import write_marker
from llm_gym.runs.flights import COLUMNS, FLIGHTS, flight_files, read_flights
from llm_gym.stages.watch.flights import what_came
from llm_gym.stages.watch.server import create_app
from llm_gym.stages.watch.view import WatchedRun
from tests.stages.watch.flown import ALTITUDE, VALUE, flight, write_flown, write_flying_run


@pytest.fixture
def flying(tmp_path):
    return write_flying_run(tmp_path / "flying")


# ------------------------------------------------------------------ the file


def test_what_is_written_is_read_again(tmp_path):
    written = flight("moderate", cause="overspeed")
    written.columns["altitude_m"] = written.columns["altitude_m"] + 7
    path = write_flown(tmp_path, 300, flight(), written, algorithm="SAC", gamma=0.9)
    assert flight_files(tmp_path) == [path] == [FLIGHTS.file_of(tmp_path, 300)]
    look = read_flights(path)
    assert (look.step, look.algorithm, look.gamma, look.step_seconds) == (300, "SAC", 0.9, 0.2)
    assert [each.name for each in look.flights] == ["none", "moderate"]
    assert look.flights[1].cause == "overspeed"
    for name in COLUMNS:
        np.testing.assert_allclose(look.flights[1].columns[name], written.columns[name])


def test_a_flight_without_all_its_columns_is_not_written(tmp_path):
    short = flight()
    short.columns["value"] = np.zeros(5)
    with pytest.raises(ValueError, match="columns of the flight 'none' have lengths"):
        write_flown(tmp_path, 0, short)
    assert flight_files(tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"llm_gym flights 1", b"llm_gym flights 9", "has format 'llm_gym flights 9'"),
        (b"gamma", b"gammb", "is damaged: gammb"),
        (b'"lengths"', b'"lengthz"', "is damaged"),
    ],
)
def test_a_damaged_file_is_told(tmp_path, old, new, message):
    path = write_flown(tmp_path, 0, flight())
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_flights(path)
    path.write_bytes(b"\0" * 40)
    with pytest.raises(ValueError, match="is corrupt"):
        read_flights(path)


# ------------------------------------------------------------------ what the page is told


def test_what_came_is_the_discounted_rewards_and_behind_them_the_critics_value():
    # By hand, with a discount of one half, from the end: 4, 1 + 4/2, 0.75 + 3/2, ...
    assert what_came(flight(), 0.5).tolist() == [1.09375, 1.1875, 1.375, 2.25, 3.0, 4.0]
    assert what_came(flight(cause="overspeed"), 0.5).tolist()[-3:] == [1.25, 1.0, 0.0]


def test_a_run_that_learns_to_fly_tells_its_flights(flying):
    client = TestClient(create_app(WatchedRun(flying)), base_url="http://127.0.0.1")
    client.headers[TOKEN_HEADER] = client.get("/api/session").json()["token"]
    assert "/assets/flight.js" in client.get("/").text
    summary = client.post("/api/run", json={}).json()
    assert summary["looks"] == [0, 100]
    names = {curve["name"]: curve["values"] for curve in summary["curves"]}
    assert names["return in still air"] == [100.0, 101.0]
    told = client.post("/api/flights", json={"step": 100}).json()
    calm, rough = told["flights"]
    assert (calm["name"], rough["name"], rough["cause"]) == ("none", "moderate", None)
    assert calm["total"] == 3.0
    assert calm["columns"]["altitude_m"] == ALTITUDE
    assert calm["columns"]["value"] == VALUE
    assert calm["columns"]["reward"][-1] is None
    assert client.post("/api/flights", json={"step": 50}).status_code == 404
    assert client.post("/api/flights", json={"step": "x"}).status_code == 400


def test_which_page_a_run_gets(tmp_path, run):
    assert not WatchedRun(run).flies
    write_marker(tmp_path / "new", "run", command="autopilot", state="running")
    waiting = WatchedRun(tmp_path / "new")
    assert waiting.flies
    assert waiting.summary()["looks"] == []


# ------------------------------------------------------------------ the page, in a real Chromium

STILL = {"reduced_motion": "reduce"}


@pytest.fixture
def page(flying, serve, visit):
    watched = visit(serve(flying), **STILL).open()
    yield watched
    watched.assert_clean()


@pytest.mark.parametrize(
    ("question", "told", "second"),
    [
        ("arrived", "after 0.8 s, within 6 m from there on", "0.8"),
        ("critic", "at the start it expected 2, and 1.09 came", "0.0"),
        ("wrong", "at 0.2 s: expected 3, and 1.19 came", "0.2"),
        ("fell", "at 0.4 s its value fell most, by 1.5", "0.4"),
    ],
    ids=["arrived", "critic", "wrong", "fell"],
)
def test_a_stranger_can_tell_what_happened_and_when(page, question, told, second):
    assert page.text(f"#finding-{question}") == told
    page.page.click(f"#finding-{question} button")
    assert page.text("#detail h2") == f"Second {second} of 1.0"


def test_state_action_reward_and_value_of_a_moment(page):
    for _ in range(2):
        page.page.keyboard.press("ArrowRight")
    rows = page.page.locator("#detail tr").all_inner_texts()
    told = dict(row.split("\t") for row in rows)
    assert told["altitude"] == "980 m"
    assert told["off the target"] == "\N{MINUS SIGN}20.0 m"
    assert told["elevator"] == "1.0\N{DEGREE SIGN}"
    assert told["throttle"] == "50 %"
    assert told["of this step"] == "0.25"
    assert told["what the critic expects"] == "1.5"
    headings = page.page.locator("#detail h3").all_inner_texts()
    assert headings == ["State", "Action", "Reward", "Value"]
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("ArrowRight")  # there is nothing behind the end
    assert page.text("#detail h2") == "Second 1.0 of 1.0"
    assert "none: it is over" in page.text("#detail")


def test_film_and_lines_stand_at_the_same_moment(page):
    page.page.eval_on_selector("#time", "e => { e.value = 3; e.dispatchEvent(new Event('input')) }")
    scene = page.page.locator("#scene .cursor").bounding_box()
    value = page.page.locator("#lines .tall .cursor").bounding_box()
    assert scene["x"] == pytest.approx(value["x"], abs=1)
    box = page.page.locator("#lines .tall svg").bounding_box()
    assert value["x"] == pytest.approx(box["x"] + 0.6 * box["width"], abs=1)
    assert page.text("#lines .tall b") == "2.0 · 2.3"
    page.page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 10)
    assert page.text("#detail h2") == "Second 0.2 of 1.0"
    # The nose points up as far as the flight says: one degree, which is minus one on a screen.
    assert "rotate(-1.0)" in page.page.get_attribute("#scene .plane", "transform")


def test_looks_flights_and_early_ends(page):
    page.page.keyboard.press("2")
    assert page.page.locator("#scene .end").count() == 0
    page.page.keyboard.press(",")
    page.page.wait_for_selector("#when >> text=/^Look 1 of 2, after 0 steps of PPO/")
    page.page.wait_for_selector("#scene .end")  # it stays with the second flight
    assert page.text("#finding-ended") == "yes, after 1.0 s: load factor"
    assert "ended early: load factor" in page.text("#note")


def test_the_film_flies_and_goes_on_to_the_next_look(flying, serve, visit):
    watched = visit(serve(flying)).open()
    watched.page.keyboard.press("p")  # from the end: from the first look on
    watched.page.wait_for_selector("#play-text >> text=Pause")
    watched.page.wait_for_selector("#when >> text=/^Look 2 of 2/")
    watched.page.wait_for_selector("#play-text >> text=Play")
    assert watched.text("#detail h2") == "Second 1.0 of 1.0"
    watched.assert_clean()


def test_hostile_names_are_shown_and_never_obeyed(tmp_path, serve, visit):
    name = "<img src=x onerror='window.pwned=1'>\u202e"
    write_flown(tmp_path, 0, flight(name, cause="<b>x</b>"), algorithm="<i>PPO</i>")
    watched = visit(serve(tmp_path), **STILL).open()
    assert "<img src=x" in watched.text("#tabs")
    assert "\u202e" not in watched.text("#tabs")
    assert "<b>x</b>" in watched.text("#note")
    assert watched.page.locator("main img, main b b, main p i").count() == 0
    watched.assert_clean()


def test_a_phone_never_scrolls_sideways(flying, serve, visit):
    phone = {"viewport": {"width": 320, "height": 740}, "has_touch": True, "is_mobile": True}
    watched = visit(serve(flying), **phone, **STILL).open()
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 320
    watched.page.tap("#lines .tall svg")
    assert watched.text("#detail h2").startswith("Second 0.4") or watched.text(
        "#detail h2"
    ).startswith("Second 0.6")


def test_a_run_that_has_not_flown_yet_says_so(tmp_path, serve, visit):
    write_marker(tmp_path, "run", command="autopilot", state="running")
    watched = visit(serve(tmp_path)).open("body[data-state=resting]")
    assert watched.text("#rest-title") == "Not a flight yet"
    write_flown(tmp_path, 0, flight())
    watched.page.wait_for_selector("#when >> text=/^Look 1 of 1/")
