"""The benchmark of other people's worlds: one is tried for real, and pages say what came of all."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from benchmarks.worlds.names import arguments, names, opponent
from benchmarks.worlds.page import counts, page
from benchmarks.worlds.run import chosen, saved_model
from benchmarks.worlds.trial import Settings, tried

SMALL = replace(Settings(), context_length=1024, max_turns=2, episodes=2)


def test_a_world_is_tried_to_the_end(tmp_path):
    pytest.importorskip("textarena", reason="an optional library")
    model = saved_model(tmp_path, SMALL)
    found = tried("textarena:TicTacToe-v0", model, SMALL)
    assert found["verdict"] == "works"
    assert (found["players"], sum(found["ends"].values())) == (2, 2)
    assert 1 <= found["turns"] <= 2
    too_long = tried("textarena:TicTacToe-v0", model, replace(SMALL, context_length=32))
    assert too_long["verdict"] == "fails the checker"
    assert "leave no room" in too_long["reason"]
    missing = tried("textarena:NoSuchGame-v0", model, SMALL)
    assert missing["verdict"] == "not made"


def test_worlds_are_chosen_by_their_beginnings():
    pytest.importorskip("textarena", reason="an optional library")
    assert "textarena:FrozenLake-v0" in names("textarena")
    assert all(not name.endswith(("-raw", "-train")) for name in names("textarena"))
    assert len(chosen(["textarena:FrozenLake"], quick=False)) == 3
    with pytest.raises(ValueError, match="fits none"):
        chosen(["textarena:NoSuchGame"], quick=False)


def test_an_opponent_says_what_it_has_heard():
    assert opponent("You may [hit] or [stand].") in ("[hit]", "[stand]")
    assert opponent("nothing") == "[0]"
    assert arguments("textarena:TicTacToe-v0", 2) == {"num_players": 2, "opponent": opponent}
    assert arguments("textarena:FrozenLake-v0", 1) == {}


def test_a_page_has_every_world_and_no_markup_of_theirs():
    works = {"verdict": "works", "players": 1, "turns": 2.25, "tokens": 40.0, "score": 0.5}
    works |= {"errors": 1, "error": "KeyError: x", "ends": {}, "cpu_seconds": 1.0}
    fails = {"verdict": "not made", "reason": "Error: <b>|a:C|</b>", "cpu_seconds": 0.5}
    results = {"settings": asdict(SMALL), "worlds": {"a:B": works, "a:C": fails, "d:E": works}}
    assert counts(results) == [["a", "2", "1", "2"], ["d", "1", "1", "1"], ["all", "3", "2", "3"]]
    text = page(results)
    assert "| `a:B` | 1 | 2.2 | 40 | 0.50 | 1 | works |" in text
    assert "<b>" not in text
    assert "&#60;b&#62;&#124;a:C&#124;&#60;/b&#62; | 1 | `a:C` |" in text
    fails["reason"] = "(LookupError: Resource 'words' not found.)"
    assert "| not made | it needs NLTK's list of words, a download | 1 | `a:C` |" in page(results)
    assert "In 2 of those that work" in text
