"""The benchmark of learning other people's worlds: words, yardsticks, one world, the page."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

import pytest

from benchmarks.worlds import learning
from benchmarks.worlds.learning import is_improved, page
from benchmarks.worlds.learnt import Settings, learnt, maker, one_of, played
from benchmarks.worlds.players import any_move, eight_or_more, in_turn, one_match
from benchmarks.worlds.recipes import RECIPES, Recipe
from benchmarks.worlds.words import word_tokenizer

SMALL = Settings(rows=4, batch_size=8, n_epochs=1, heard=8, evaluated=8)
RULES = "You are to guess a number."


def figure(mean: float, by: float = 0.1) -> dict[str, float]:
    return {"mean": mean, "low": mean - by, "high": mean + by}


FOUND = {
    "before": figure(0.0),
    "after": figure(1.0),
    "gain": figure(1.0),
    "random": figure(0.2),
    "constant": figure(0.5),
    "answer": "a|b",
    "new": 0.5,
    "tokens": 2048,
    "cpu_seconds": 12.3,
}


class Secret:
    """Pays for the number that a generator of its seed draws first."""

    def reset(self, *, seed):
        self.number = str(random.Random(seed).choice(range(1, 11)))
        return f"{RULES} Game {seed}."

    def step(self, text):
        return (
            "Lower." if len(text) == 2 else "Higher.",
            float(text == self.number),
            True,
            False,
            {},
        )


def test_a_world_gets_the_words_that_it_says():
    said = [[f"{RULES} Your move, {name}", "Higher."] for name in ("Ann", "Bob", "Cyd")]
    answers = ["1 0", "1"]
    tokenizer = word_tokenizer(said, answers, most_words=4)
    ids = tokenizer(f"{RULES} Your move, Zoe")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [f"{RULES} Your move, ", "<unk>"]
    told = tokenizer("1 0 is Higher. 101 1")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(told)[0] == "1 0"
    assert tokenizer.convert_ids_to_tokens(told)[-1] == "1"
    assert tokenizer.decode(tokenizer.convert_tokens_to_ids(["Higher", "1 0"])) == "Higher1 0"
    spelt = word_tokenizer(said, ["A", "n"], most_words=40, spelt=True)
    assert spelt.convert_ids_to_tokens(spelt(" Ann")["input_ids"]) == ["A", "n", "n"]


def test_a_player_who_knows_nothing_does_not_draw_what_the_world_draws():
    say = partial(one_of, [str(n) for n in range(1, 11)])
    returns, said = played(Secret(), range(200), say, max_turns=3)
    assert 5 <= sum(returns) <= 45
    assert said[7][0].endswith("Game 7.")
    assert all(len(texts) == 2 for texts in said)


def test_players_of_other_seats():
    assert any_move("Available moves: '[1]'\nAvailable moves: '[2]'\nMove!") == "[2]"
    assert [in_turn("Round result " * n) for n in (0, 1, 5)] == ["[rock]", "[paper]", "[scissors]"]
    assert one_match("pile 0: 2\npile 1: 3\npile 0: 0") == "[1 1]"
    assert eight_or_more("turn total is 9. turn total is 3.") == "[roll]"
    assert eight_or_more("turn total is 3. turn total is 9.") == "[hold]"


@pytest.mark.parametrize("world", RECIPES)
def test_recipes_fit_their_worlds(world):
    recipe = RECIPES[world]
    pytest.importorskip(world.partition(":")[0], reason="an optional library")
    make = maker(world, recipe, held_out=True)
    _, said = played(make(), range(4), partial(one_of, recipe.answers), recipe.max_turns)
    tokenizer = word_tokenizer(said, recipe.answers, most_words=recipe.most_words)
    longest = max(len(ids) for texts in said for ids in tokenizer(texts)["input_ids"])
    assert longest + 3 + recipe.max_turn_tokens <= recipe.context_length


def test_a_world_is_learnt_and_judged_on_other_conversations(tmp_path):
    pytest.importorskip("skyrl_gym", reason="an optional library")
    recipe = replace(RECIPES["skyrl_gym:gsm8k"], tokens=32, n_steps=4)
    found = learnt("skyrl_gym:gsm8k", recipe, SMALL, tmp_path)
    assert found["seeds_shared"] == 0
    assert found["new"] == 1.0
    assert found["tokens"] == 32
    assert found["answer"] in recipe.answers
    assert 0.0 <= found["after"]["low"] <= found["after"]["mean"] <= found["after"]["high"] <= 1.0


def test_improved_is_intervals_apart_and_a_paired_gain():
    assert is_improved(FOUND)
    assert not is_improved({**FOUND, "after": figure(0.15)})
    assert not is_improved({**FOUND, "gain": figure(0.05)})


def test_what_is_done_is_not_done_again_and_the_page_says_what_came(tmp_path, monkeypatch):
    worlds = {"a:good": Recipe(("x",)), "a:bad": Recipe(("x",))}
    asked = []

    def fake(world, recipe, settings, directory):
        asked.append(world)
        return FOUND if world == "a:good" else {**FOUND, "after": figure(0.0)}

    monkeypatch.setattr(learning, "RECIPES", worlds)
    monkeypatch.setattr(learning, "learnt", fake)
    learning.main(["--output", str(tmp_path), "--only", "a:good"])
    learning.main(["--output", str(tmp_path), "--write", str(tmp_path / "page.md")])
    assert asked == ["a:good", "a:bad"]
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    good, bad = text.index("| `a:good`"), text.index("| `a:bad`")
    assert text.index("## Learnt: 1") < good < text.index("## Not learnt in this budget: 1") < bad
    assert "a&#124;b" in text
    assert "1 of 2: `a:good`" in text
    assert page({"settings": {**learning.asdict(SMALL)}, "worlds": {}})
