"""One person is one name, whatever type the name has and however its letters are composed."""

from __future__ import annotations

import json
import math
import sqlite3
import unicodedata
from contextlib import closing

import numpy as np
import pytest

from llm_gym.feedback.preferences import (
    Comparison,
    PreferenceStore,
    read_preferences,
    write_preferences,
)
from llm_gym.feedback.preferences.agreement import vote_table
from llm_gym.feedback.preferences.records import Vote, rater_name, rater_of

COMPOSED, APART = unicodedata.normalize("NFC", "José"), unicodedata.normalize("NFD", "José")


@pytest.mark.parametrize(
    ("rater", "name"),
    [
        (0, "0"),
        (2, "2"),
        ("2", "2"),
        (2.0, "2"),  # as pandas writes whole numbers beside missing ones
        (np.int64(2), "2"),
        (np.float64(2), "2"),
        (2.5, "2.5"),
        (True, "True"),
        (" ada ", "ada"),
        (APART, COMPOSED),
    ],
)
def test_numbers_are_names(rater, name):
    assert rater_name(rater) == name
    assert rater_of({"rater": rater}) == name
    assert Vote(1, rater, "first", 1.0, 0).rater == name


@pytest.mark.parametrize("columns", [{}, {"rater": None}, {"rater": math.nan}, {"rater": "  "}])
def test_no_name_is_no_rater(columns):
    assert rater_of(columns) is None


@pytest.mark.parametrize(
    ("rater", "message"),
    [(["ada"], "a name or a number"), (None, "a name or a number"), ("\ud83d", "lone surrogate")],
)
def test_what_is_no_name(rater, message):
    with pytest.raises((TypeError, ValueError), match=f"rater .*{message}"):
        rater_name(rater)


def write_votes(path, raters):
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b", **({} if r is None else {"rater": r})}
        for r in raters
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_imported_votes_are_of_the_people_who_gave_them(tmp_path):
    path = write_votes(tmp_path / "votes.jsonl", [0, 1, 2, "ada", APART, None])
    assert [row.columns.get("rater") for row in read_preferences(path)] == [
        "0",
        "1",
        "2",
        "ada",
        COMPOSED,
        None,
    ]
    with PreferenceStore(tmp_path / "votes.db") as store:
        assert store.import_file(path) == 6
        assert set(store.progress().by_rater) == {"0", "1", "2", "ada", COMPOSED, "imported"}
        # Without the first row, nobody becomes somebody else.
        again = write_votes(tmp_path / "again.jsonl", ["2", 1.0, COMPOSED])
        assert store.import_file(again) == 0
        assert vote_table(store.votes())[2] == sorted(store.progress().by_rater)
        exported = tmp_path / "exported.jsonl"
        store.export_file(exported, conflicts="all")
        assert store.import_file(exported) == 0


def test_a_store_knows_a_rater_again_in_every_spelling(tmp_path):
    with PreferenceStore(tmp_path / "votes.db") as store:
        (number,) = store.add([Comparison("p", ("a", "b"))])
        assert store.next_for(APART).id == number
        store.vote(number, COMPOSED, "first", seconds=1.0, shown_first=0)
        assert store.next_for(APART) is None
        assert store.progress(APART).votes == 1
        assert store.undo(APART).rater == COMPOSED


SPELLINGS = [APART, COMPOSED, f" {APART}"]


@pytest.fixture(params=SPELLINGS)
def old_store(request, tmp_path):
    """A store whose names an older version has written as they were typed."""
    path = tmp_path / "old.db"
    with PreferenceStore(path) as store:
        numbers = store.add(Comparison(f"p{n}", ("a", "b")) for n in range(4))
        for number in numbers[:2]:
            store.vote(number, COMPOSED, "first", seconds=1.0, shown_first=0, key=f"key {number}")
        store.vote(numbers[0], "ada", "second", seconds=1.0, shown_first=0)
        assert store.next_for(COMPOSED).id == numbers[2]
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in ("vote", "lease"):
            query = f"UPDATE {table} SET rater = ? WHERE rater = ?"
            assert connection.execute(query, (request.param, COMPOSED)).rowcount
    with PreferenceStore(path) as store:
        yield store


@pytest.mark.parametrize("name", SPELLINGS)
def test_whoever_voted_under_an_older_spelling_is_the_same_rater(old_store, name, tmp_path):
    assert old_store.progress().by_rater == {COMPOSED: 2, "ada": 1}
    assert old_store.progress(name).votes == 2
    assert old_store.progress(name).remaining == 2
    assert old_store.next_for(name).id == 3
    with pytest.raises(ValueError, match="has already voted 'first' on comparison 1"):
        old_store.vote(1, name, "second", seconds=1.0, shown_first=0)
    repeated = old_store.vote(2, name, "first", seconds=1.0, shown_first=0, key="key 2")
    assert repeated.id == 2
    exported = tmp_path / "exported.jsonl"
    old_store.export_file(exported, conflicts="all")
    assert old_store.import_file(exported) == 0
    for number in (3, 4):
        assert old_store.next_for(name).id == number
        old_store.vote(number, name, "first", seconds=1.0, shown_first=0)
    assert old_store.next_for(name) is None
    assert [old_store.undo(name).comparison_id for _ in range(4)] == [4, 3, 2, 1]
    assert old_store.undo(name) is None
    assert {vote.rater for vote in old_store.votes(undone=True)} == {COMPOSED}
    assert old_store.progress().by_rater == {"ada": 1}


def test_two_votes_that_one_rater_gave_in_two_spellings_are_both_kept(tmp_path):
    """Older versions took the two for two people, and asked both."""
    path = tmp_path / "old.db"
    with PreferenceStore(path) as store:
        (number,) = store.add([Comparison("p", ("a", "b"))])
        for name in ("x", "y"):
            store.vote(number, name, "first", seconds=1.0, shown_first=0, key=name)
    with closing(sqlite3.connect(path)) as connection, connection:
        for old, new in (("x", APART), ("y", COMPOSED)):
            connection.execute("UPDATE vote SET rater = ? WHERE rater = ?", (new, old))
    with PreferenceStore(path) as store:
        assert [vote.rater for vote in store.votes()] == [COMPOSED, COMPOSED]
        assert store.progress().by_rater == {COMPOSED: 2}
        assert store.next_for(COMPOSED) is None
        assert [row.columns["rater"] for row in store.preferences(conflicts="all")] == [
            COMPOSED
        ] * 2
        vote_table(store.votes())
        for key in ("x", "y"):
            store.vote(number, APART, "first", seconds=1.0, shown_first=0, key=key)
        assert len(list(store.votes())) == 2
        assert [store.undo(APART).id for _ in range(2)] == [2, 1]
        assert store.next_for(COMPOSED).id == number


def test_contradictions_are_those_of_one_person(tmp_path):
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b", "rater": 2},
        {"prompt": "p", "chosen": "b", "rejected": "a", "rater": "3"},
    ]
    assert len(read_preferences(rows)) == 2
    rows[1]["rater"] = "2"
    with pytest.raises(ValueError, match=r"preferences\[1\] says the opposite of preferences\[0\]"):
        read_preferences(rows)


def test_contradictions_that_leave_nothing_are_an_error():
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": "b", "rejected": "a"},
    ]
    with pytest.raises(ValueError, match="all 2 preferences contradict each other"):
        read_preferences(rows, contradictions="drop")


def test_names_survive_a_table(tmp_path):
    rows = read_preferences(write_votes(tmp_path / "votes.jsonl", [0, None, 2]))
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([row.to_dict() for row in rows])
    frame["rater"] = frame["rater"].astype(float)  # 0.0, NaN, 2.0
    assert [row.columns.get("rater") for row in read_preferences(frame)] == ["0", None, "2"]
    path = write_preferences(tmp_path / "votes.parquet", rows)
    assert read_preferences(path) == rows
