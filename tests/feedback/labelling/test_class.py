"""Many people vote at once: names, addresses, codes, shared pairs and what the votes say."""

from __future__ import annotations

import re
import socket
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import psutil
import pytest

from llm_gym.feedback.labelling import qr
from llm_gym.feedback.labelling.addresses import Address, addresses_elsewhere
from llm_gym.feedback.labelling.questions import RATER_LENGTH
from llm_gym.feedback.labelling.results import results_of
from llm_gym.feedback.labelling.seats import Seats
from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.feedback.preferences.records import Vote
from tests.feedback.labelling.conftest import fill, reply_to

NOW = datetime(2026, 5, 4, 10, 0, tzinfo=timezone.utc)

# ------------------------------------------------------------------ names


def test_every_device_has_a_name_of_its_own():
    seats = Seats()
    assert seats.take("Anna", "device-a") == "Anna"
    assert seats.take(" Anna ", "device-b") == "Anna (2)"
    assert seats.take("Anna", "device-a") == "Anna"  # the page was loaded again
    assert seats.take("Anna (2)", "device-b") == "Anna (2)"
    assert [seats.take("", f"guest-{n}") for n in (1, 2, 1)] == ["Guest 1", "Guest 2", "Guest 1"]
    assert Seats().take("Anna (2)", "device-b") == "Anna (2)"  # the server was started again


def test_a_long_name_keeps_its_number():
    seats = Seats()
    names = [seats.take("n" * RATER_LENGTH, f"device-{n}") for n in range(12)]
    assert len(set(names)) == 12
    assert max(map(len, names)) == RATER_LENGTH
    assert names[11].endswith(" (12)")


def test_devices_that_come_at_once_get_different_names():
    seats = Seats()
    with ThreadPoolExecutor(8) as executor:
        names = list(executor.map(lambda n: seats.take("", f"device-{n}"), range(40)))
    assert set(names) == {f"Guest {n}" for n in range(1, 41)}


@pytest.mark.parametrize(("name", "device"), [("a\u202eb", "device"), ("x" * 61, "d"), ("x", "")])
def test_names_and_devices_are_checked(name, device):
    with pytest.raises(ValueError, match=r"rater|key"):
        Seats().take(name, device)


# ------------------------------------------------------------------ addresses and codes


def test_every_address_of_the_machine_is_named_the_outward_one_first(monkeypatch):
    entry = namedtuple("Entry", "family address")
    state = namedtuple("State", "isup")
    four, six = socket.AF_INET, socket.AF_INET6
    entries = {
        "docker0": [entry(four, "172.17.0.1")],
        "wlan0": [entry(four, "192.168.1.5"), entry(six, "fe80::1%wlan0")],
        "eth0": [entry(four, "10.0.0.7"), entry(six, "2001:db8::7"), entry(-1, "00:11:22")],
        "lo": [entry(four, "127.0.0.1"), entry(six, "::1")],
        "tun0": [entry(four, "10.9.9.9")],
    }
    states = {name: state(name != "tun0") for name in entries}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: entries)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: states)
    outward = "llm_gym.feedback.labelling.addresses._outward"
    monkeypatch.setattr(outward, lambda: "192.168.1.5")
    four_only = [
        Address("wlan0", "http://192.168.1.5:80/"),
        Address("eth0", "http://10.0.0.7:80/"),
        Address("docker0", "http://172.17.0.1:80/"),
    ]
    assert addresses_elsewhere("0.0.0.0", 80) == four_only
    assert addresses_elsewhere("::", 80) == [
        *four_only,
        Address("eth0", "http://[2001:db8::7]:80/"),
    ]
    assert addresses_elsewhere("127.0.0.1", 80) == addresses_elsewhere("localhost", 80) == []
    assert addresses_elsewhere("10.0.0.7", 80) == [Address("", "http://10.0.0.7:80/")]


def test_the_drawing_is_the_code_with_its_margin():
    address = "http://192.168.1.5:8000/#abcdefghjk"
    size, path = qr.drawing(address)
    assert (size - 8 - 17) % 4 == 0  # 17 + 4 modules a version, and four of white on each side
    dark = {tuple(map(int, square.split("h")[0].split())) for square in path[1:].split("M")}
    finder = {(4 + n, 4) for n in range(7)} | {(4 + n, 10) for n in range(7)}
    assert finder <= dark
    assert min(min(place) for place in dark) == 4
    assert max(max(place) for place in dark) == size - 5
    assert qr.drawing(address + "x").path != path


def test_the_terminal_has_as_many_modules():
    lines = qr.in_terminal("http://192.168.1.5:8000/#abcdefghjk").splitlines()
    size = qr.drawing("http://192.168.1.5:8000/#abcdefghjk").size
    assert len(lines) in (size // 2 - 1, size // 2)  # two modules to a line, half the margin
    for line in lines:  # light blocks on dark, in a terminal of either kind
        assert re.fullmatch(r"\x1b\[38;5;231;48;5;16m[█▀▄ ]+\x1b\[0m", line)


# ------------------------------------------------------------------ who judges what


def vote_all(desk, raters, verdict=lambda rater, number: "left"):
    """Raters in turn, one question each, until nobody has any."""
    asked = {rater: [] for rater in raters}
    more = True
    while more:
        more = False
        for rater in raters:
            question = desk.next(rater)
            if question is not None:
                more = True
                asked[rater].append(question.id)
                desk.answer(rater, reply_to(question, verdict(rater, question.id)))
    return asked


def test_a_share_of_the_comparisons_is_judged_twice_and_early(store):
    fill(store, 20)
    desk = StoreDesk(store, overlap=0.2)
    raters = ["a", "b", "c", "d"]
    assert desk.results().wanted == 24
    asked = vote_all(desk, raters)
    counts = [sum(ids.count(number) for ids in asked.values()) for number in range(1, 21)]
    assert counts == [2 if number % 5 == 0 else 1 for number in range(1, 21)]
    assert all(len(set(ids)) == len(ids) == 6 for ids in asked.values())  # nobody sees one twice
    first_half = [vote.comparison_id for vote in store.votes()][:12]
    assert sum(first_half.count(number) == 2 for number in set(first_half)) == 2
    assert desk.results().agreement.shared == 4
    assert desk.summary("a").total == 6


def test_without_overlap_and_with_all_of_it(store):
    fill(store, 4)
    assert StoreDesk(store).results().wanted == 4
    assert StoreDesk(store, overlap=1.0, votes_per_comparison=2).results().wanted == 12
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="overlap"):
            StoreDesk(store, overlap=wrong)


def test_what_a_phone_left_open_goes_to_others_after_the_lease(store, monkeypatch):
    fill(store, 1)
    desk = StoreDesk(store, lease_seconds=120)
    assert desk.next("gone") is not None
    assert desk.next("here") is None
    later = datetime.now().timestamp() + 121
    monkeypatch.setattr("llm_gym.feedback.preferences.store.time.time", lambda: later)
    assert desk.next("here") is not None


# ------------------------------------------------------------------ what the votes say


def vote(number, rater, choice, *, minutes_ago=0.0, shown_first=0, created_at=None):
    at = created_at or (NOW - timedelta(minutes=minutes_ago)).isoformat()
    return Vote(number, rater, choice, 5.0, shown_first, at)


def test_the_figures_of_a_vote():
    votes = [
        vote(1, "a", "first", minutes_ago=4.5),
        vote(1, "b", "first", minutes_ago=2.5, shown_first=1),
        vote(2, "a", "second", minutes_ago=2.2),
        vote(2, "b", "first", minutes_ago=0.2),
        vote(3, "a", "tie", minutes_ago=0.1),
        vote(4, "c", "skip", minutes_ago=0.1),
    ]
    found = results_of(votes, remaining=6, now=NOW)
    assert (found.votes, found.wanted, found.ties, found.skips, found.raters) == (5, 11, 1, 1, 2)
    assert (found.agreement.shared, found.agreement.raw.value) == (2, 0.5)
    assert found.shown_first.value == 0.5  # two of four, by the side on which they stood
    assert found.minutes == (1, 0, 2, 0, 2)
    assert found.votes_per_minute == pytest.approx(4 / 3)
    assert found.minutes_left == pytest.approx(4.5)


def test_before_anybody_votes_and_when_all_have():
    nothing = results_of([], remaining=9, now=NOW)
    told = nothing.to_dict()
    assert (told["votes"], told["wanted"], told["minutes_left"], told["minutes"]) == (
        0,
        9,
        None,
        [0],
    )
    assert told["same"]["value"] is told["alpha"]["value"] is told["shown_first"]["value"] is None
    assert results_of([vote(1, "a", "tie")], remaining=0, now=NOW).minutes_left == 0


@pytest.mark.parametrize("created_at", ["yesterday", "2026-05-04T09:59:00"])
def test_votes_that_do_not_say_when_count_but_have_no_pace(created_at):
    found = results_of([vote(1, "a", "first", created_at=created_at)], 1, now=NOW)
    assert (found.votes, found.votes_per_minute, found.minutes) == (1, 0, (0,))
    assert found.minutes_left is None
