"""Servers that die, answers that get lost: in a real Chromium, no vote is lost or counted twice."""

from __future__ import annotations

import signal

import pytest

from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.feedback.preferences.records import Choice, Comparison
from llm_gym.feedback.preferences.store import PreferenceStore
from tests.browsing import READY
from tests.feedback.labelling.browsing import Command
from tests.feedback.labelling.conftest import fill


@pytest.fixture
def command(tmp_path):
    commands = []

    def start(*arguments):
        commands.append(Command(*arguments))
        return commands[-1]

    yield start
    for started in commands:
        if started.process.returncode is None:
            started.kill()


@pytest.fixture
def path(tmp_path):
    with PreferenceStore(tmp_path / "votes.db") as store:
        fill(store)
    return tmp_path / "votes.db"


def votes_in(path):
    with PreferenceStore(path) as store:
        return list(store.votes())


def test_a_server_that_is_killed_and_restarted_gets_the_vote_once(command, path, visit):
    server = command(path)
    watched = visit(server.url).open()
    watched.press("1")
    server.kill()
    watched.page.keyboard.press("2")
    watched.page.wait_for_selector("#trouble:not([hidden])")
    assert "Your vote is kept here" in watched.text("#trouble")
    watched.page.keyboard.press("1")  # changes nothing: a vote is on its way
    assert len(votes_in(path)) == 1
    command(path, server.port)
    watched.page.wait_for_selector("#trouble", state="hidden")
    watched.settles_at("2 of 5")
    assert len(votes_in(path)) == 2
    watched.press("t")
    assert len(votes_in(path)) == 3


def test_a_vote_whose_acknowledgement_was_lost_counts_once(store, serve, visit):
    fill(store)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    lost = []

    def lose_the_first(route):
        response = route.fetch()  # the server has counted it
        if lost:
            route.fulfill(response=response)
        else:
            lost.append(response.status)
            route.abort()

    watched.page.route("**/api/vote", lose_the_first)
    watched.page.keyboard.press("1")
    watched.settles_at("1 of 5")
    assert lost == [200]
    assert len(list(store.votes())) == 1
    assert not watched.page.is_visible("#trouble")  # the repetition was no second vote


def test_an_undo_whose_acknowledgement_was_lost_takes_back_one_vote(store, serve, visit):
    fill(store)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    watched.press("1")
    watched.press("2")
    watched.settles_at("2 of 5")
    lost = []

    def lose_the_first(route):
        response = route.fetch()
        if lost:
            route.fulfill(response=response)
        else:
            lost.append(response.status)
            route.abort()

    watched.page.route("**/api/undo", lose_the_first)
    watched.page.keyboard.press("u")
    watched.settles_at("1 of 5")
    assert lost == [200]
    assert len(list(store.votes())) == 1


def test_a_full_or_locked_store_keeps_the_vote_in_the_page(tmp_path, serve, visit):
    with PreferenceStore(tmp_path / "votes.db") as store:
        fill(store)
        desk = StoreDesk(store)
        works = desk.answer

        def fails(rater, reply):
            raise OSError("no room left on the disk")

        watched = visit(serve(desk, rater="Ada")).open()
        desk.answer = fails
        watched.page.keyboard.press("1")
        watched.page.wait_for_selector("#trouble:not([hidden])")
        expected = "no room left on the disk. Your vote is kept here. Trying again …"
        assert watched.text("#trouble") == expected
        desk.answer = works
        watched.page.wait_for_selector(READY)
        assert len(list(store.votes())) == 1


def test_a_vote_the_server_refuses_is_said_and_the_next_question_comes(store, serve, visit):
    fill(store)
    desk = StoreDesk(store)
    watched = visit(serve(desk, rater="Ada")).open()
    other = StoreDesk(store)  # another page of the same rater
    question = other.next("Ada")
    store.vote(question.id, "Ada", "tie", seconds=1, shown_first=0)
    watched.page.keyboard.press("1")
    watched.settles_at("1 of 5")
    assert "Your last vote was not counted: rater 'Ada' has already voted" in watched.text(
        "#trouble"
    )
    assert [vote.choice for vote in store.votes()] == [Choice.TIE]
    watched.press("2")
    assert not watched.page.is_visible("#trouble")


def test_a_page_closed_with_a_vote_on_its_way_delivers_it_next_time_to_its_store(
    command, path, tmp_path, visit
):
    """Two stores are labelled at one address, one after the other."""
    server = command(path)
    watched = visit(server.url).open()
    server.kill()
    watched.page.keyboard.press("1")
    watched.page.wait_for_selector("#trouble:not([hidden])")
    context = watched.page.context
    watched.page.close()
    assert not votes_in(path)
    with PreferenceStore(tmp_path / "other.db") as other:
        other.add([Comparison("Another prompt", ("a", "b"))])
    for store, votes in ((tmp_path / "other.db", 0), (path, 1)):
        server = command(store, server.port)
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector(READY)
        if votes:
            page.wait_for_selector(f"{READY} >> #progress >> text=/^1 of 5/")
            kept = page.evaluate("Object.keys(localStorage).filter((key) => /vote/.test(key))")
            assert kept == []
        assert len(votes_in(store)) == votes
        page.close()
        server.kill()


def test_ctrl_c_stops_cleanly_with_a_page_open(command, path, visit):
    server = command(path)
    watched = visit(server.url).open()
    watched.press("1")
    server.process.send_signal(signal.SIGINT)
    rest = server.process.stdout.read()
    assert server.process.wait(timeout=30) == 0
    assert "1 vote so far" in rest
    assert "Traceback" not in rest
