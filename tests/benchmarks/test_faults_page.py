"""A sample of the attacks on the labelling page; `benchmarks/faults/run.py --only page` has all."""

from __future__ import annotations

import os

import pytest

from benchmarks.faults.attacks import FILES, LONG, TEXTS, WHO, Attack, bodies
from benchmarks.faults.page import Server, big_body, refused, shown
from benchmarks.faults.stores import SCHEMAS, hostile_stores

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes and processes of POSIX")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pairs = [("one", "two"), *((f"A{text}", f"B{text}") for text in TEXTS.values())]
    with Server(tmp_path_factory.mktemp("page"), 1.0, pairs) as server:
        yield server


def test_there_are_as_many_attacks_as_the_table_says(server):
    requests = [*WHO, *FILES, *bodies(server.vote_body()), *LONG]
    assert len(requests) + len(TEXTS) + 6 == 112
    assert len({attack.what for attack in requests}) == len(requests)


def test_a_sample_of_the_attacks_is_refused_and_nothing_is_left_of_it(server):
    requests = [*WHO, *FILES, *bodies(server.vote_body()), *LONG]
    assert [refused(server, attack) for attack in requests[::5]] == [None] * len(requests[::5])
    assert big_body(server, 1_000_000, chunked=True) is None
    assert shown(server, "Rater 0") is None
    assert server.problem() is None
    assert server.votes() == 0


def test_an_attack_that_is_not_refused_is_seen(server):
    assert refused(server, Attack("none at all", (400, 403))).startswith("answered 200")


def test_stores_that_somebody_changed_are_refused_and_nothing_of_them_runs(tmp_path, monkeypatch):
    for what in list(SCHEMAS)[::2]:
        monkeypatch.delitem(SCHEMAS, what)
    for row in hostile_stores(tmp_path):
        assert (row.what, row.good, row.failures) == (row.what, row.tried, [])


def test_a_store_that_is_used_is_seen(tmp_path, monkeypatch):
    for what in list(SCHEMAS):
        monkeypatch.delitem(SCHEMAS, what)
    monkeypatch.setitem(SCHEMAS, "nothing changed", "SELECT 1")
    used, ran, *_ = hostile_stores(tmp_path)
    assert used.failures == ["nothing changed: was used"]
    assert ran.failures == ["nothing changed: something was run or written"]
