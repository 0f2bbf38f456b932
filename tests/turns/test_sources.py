"""Worlds of other libraries: the libraries themselves, met through their names."""

from __future__ import annotations

import random
import sys

import gymnasium as gym
import numpy as np
import pytest

import llm_gym  # noqa: F401 -- registers the environments
from llm_gym.turns import WorldError
from llm_gym.turns.sources.global_random import OwnRandom
from llm_gym.turns.worlds import world_maker

SUMS = [{"prompt": f"{n} + 70?", "reward_spec": {"ground_truth": str(n + 70)}} for n in range(5)]


def make(name, **kwargs):
    pytest.importorskip(name.partition(":")[0], reason="an optional library")
    return world_maker(name, 1, kwargs)()


def scripted(*says):
    """An opponent that says one thing after the other."""
    lines = iter(says)
    return lambda heard: next(lines)


def test_a_game_of_gem_ends_where_its_number_is_found():
    world = make("gem:game:GuessTheNumber-v0-easy")
    first, _ = world.reset(seed=3)
    assert "between 1 and 10" in first
    low, high = 1, 10
    for _ in range(4):
        guess = (low + high) // 2
        text, reward, terminated, _, _ = world.step(rf"\boxed{{{guess}}}")
        if terminated:
            break
        assert text.endswith("\nEnter your next guess.")
        assert reward == 0.0
        low, high = (guess + 1, high) if "higher than" in text else (low, guess - 1)
    assert reward == 1.0
    assert "Congratulations" in text
    assert "Enter" not in text  # a game that is over asks for nothing


def test_a_game_of_textarena_says_only_what_is_new():
    world = make("textarena:GuessTheNumber-v0")
    first, _ = world.reset(seed=3)
    second, *rest = world.step("1")
    assert "between 1 and 20" in first
    assert second == "The target number is higher."  # neither the rules again nor "1"
    assert rest == [0.0, False, False, {}]


def test_an_opponent_plays_the_other_seats_of_textarena():
    heard = []

    def opponent(text):
        heard.append(text)
        return f"[{len(heard) + 5}]"  # 6, 7

    world = make("textarena:TicTacToe-v0", num_players=2, opponent=opponent)
    assert "You are Player 0" in world.reset(seed=0)[0]
    text, *rest = world.step("[0]")
    assert "[Player 1] [6]" in text
    assert "[Player 0] [0]" not in text
    assert rest == [0.0, False, False, {}]
    world.step("[1]")
    _, reward, terminated, truncated, info = world.step("[2]")
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["reason"]
    assert "You are Player 1" in heard[0]
    assert "[Player 0] [0]" in heard[0]


def test_the_second_seat_hears_the_first_and_loses_to_it():
    world = make(
        "textarena:TicTacToe-v0", num_players=2, seat=1, opponent=scripted("[0]", "[1]", "[2]")
    )
    assert "[Player 0] [0]" in world.reset(seed=0)[0]
    world.step("[6]")
    assert world.step("[7]")[1:4] == (-1.0, True, False)


def test_a_game_of_textarena_begins_anew_with_each_seed():
    """TextArena's games keep their decks, and its wrappers what was heard, from game to game."""
    heard = []

    def opponent(text):
        heard.append(text)
        return "[fold]"

    world = make("textarena:IndianPoker-v0-short", num_players=2, opponent=opponent)
    games = []
    for seed in (1, 2, 1):
        heard.clear()
        told = [world.reset(seed=seed)[0], *(world.step("[bet 1]")[:3] for _ in range(2))]
        games.append((told, list(heard)))
    assert games[0] == games[2] != games[1]


def test_a_task_of_skyrl_is_chosen_by_the_seed():
    world = make("skyrl_gym:gsm8k", tasks=SUMS)
    assert [world.reset(seed=seed)[0] for seed in (3, 4, 5)] == ["3 + 70?", "4 + 70?", "0 + 70?"]
    assert world.step("#### 70")[1:4] == (1.0, True, False)
    world.reset(seed=3)
    assert world.step("#### 70")[1:4] == (0.0, True, False)
    world.close()


def test_a_question_of_reasoning_gym_belongs_to_its_split_and_is_judged():
    questions = pytest.importorskip("llm_gym_reasoning.questions")
    for split in questions.SPLITS:
        world = make("reasoning_gym:gcd", split=split)
        for seed in range(12):
            question = world.reset(seed=seed)
            assert questions.split_of(question) == split
        right = world._entry["answer"]
        assert world.step(right)[1:4] == (1.0, True, False)
        world.reset(seed=0)
        assert world.step("none")[1] == 0.0


DRAWING = {
    "gem:game:Minesweeper-v0-easy": {},
    "gem:game:Sudoku-v0-random": {},
    "textarena:Minesweeper-v0-small": {},
    "reasoning_gym:chain_sum": {},
}


@pytest.mark.parametrize("name", DRAWING)
def test_worlds_draw_from_generators_of_their_own(name):
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    one, two = make(name), make(name)
    first = one.reset(seed=1)
    two.reset(seed=2)
    answers = [one.step("[0 0]")[:3], *([] if "reasoning" in name else [one.step("[1 1]")[:3]])]
    again = make(name)
    assert again.reset(seed=1) == first
    told = [again.step("[0 0]")[:3]]
    two.step("[0 0]")  # draws in between
    if "reasoning" not in name:
        told.append(again.step("[1 1]")[:3])
    assert told == answers
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_a_state_of_draws_goes_on_where_it_stopped():
    own, others = OwnRandom(3), OwnRandom(4)
    drawn = []
    for _ in range(3):
        with own.lent():
            drawn.append(random.random())
        with others.lent():
            random.random()
    expected = random.Random(3)
    assert drawn == [expected.random() for _ in range(3)]


def test_normal_numbers_that_numpy_has_drawn_ahead_are_kept():
    own, kept = OwnRandom(3), np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(4)  # noqa: NPY002
        drawn: dict[str, list[float]] = {"own": [], "outside": []}
        for _ in range(5):  # an odd number is left of a pair again and again
            drawn["outside"].append(np.random.normal())  # noqa: NPY002
            with own.lent():
                drawn["own"].append(np.random.normal())  # noqa: NPY002
    finally:
        np.random.set_state(kept)  # noqa: NPY002
    for name, seed in (("own", 3), ("outside", 4)):
        assert drawn[name] == np.random.RandomState(seed).normal(size=5).tolist()


def test_rows_in_threads_hear_what_rows_in_turn_hear():
    pytest.importorskip("textarena", reason="an optional library")
    heard = []
    for limit in (None, 60.0):
        env = gym.make_vec(
            "llm_gym/Turns-v0",
            num_envs=6,
            tokenizer="llm_gym/email-sft",
            world="textarena:FrozenLake-v0-random",
            world_time_limit=limit,
            context_length=2048,
        )
        heard.append([list(env.reset(seed=seed)[1]["prompt"]) for seed in (0, 1)])
        env.close()
    assert heard[0] == heard[1]
    assert len({text for texts in heard[0] for text in texts}) > 6


@pytest.mark.parametrize(
    ("name", "kwargs", "error", "match"),
    [
        ("gem:game:Sudoko-v0-easy", {}, ValueError, "did you mean 'game:Sudoku-v0-easy'"),
        ("gem:rg:gcd", {}, ValueError, "'run_answers': True.*world='reasoning_gym:gcd'"),
        ("gem:code:CodeContest", {}, ValueError, "runs what the agent writes"),
        ("textarena:FrozenLake", {}, ValueError, "did you mean 'FrozenLake-v0"),
        ("textarena:TicTacToe-v0", {}, ValueError, "num_players=1: The number of players has"),
        ("textarena:TicTacToe-v0", {"num_players": 2}, ValueError, "needs opponent=.*got None"),
        ("textarena:FrozenLake-v0", {"seat": 1}, ValueError, "seat=1 must be from 0 to"),
        ("textarena:FrozenLake-v0", {"size": "x"}, WorldError, "could not be made.*world_kwargs="),
        ("skyrl_gym:gsm8k", {}, ValueError, r"needs world_kwargs=\{'tasks'"),
        ("skyrl_gym:gsm8k", {"tasks": [{"prompt": "1"}]}, WorldError, "reward_spec.*is required"),
        ("skyrl_gym:lcb", {"tasks": SUMS}, ValueError, "runs what the agent writes"),
        ("reasoning_gym:gdc", {}, ValueError, "did you mean 'gcd'"),
        ("reasoning_gym:countdown", {}, ValueError, "run_answers=True"),
        ("reasoning_gym:gcd", {"split": "all"}, ValueError, "split must be"),
    ],
)
def test_a_world_that_cannot_be_made_says_why_in_one_line(name, kwargs, error, match):
    pytest.importorskip(name.partition(":")[0], reason="an optional library")
    with pytest.raises(error, match=match) as raised:
        world_maker(name, 1, kwargs)()
    assert "\n" not in str(raised.value)


def test_games_that_need_downloads_say_so(monkeypatch):
    nltk = pytest.importorskip("nltk", reason="an optional library")
    monkeypatch.setattr(nltk, "download", lambda *args, **kwargs: False)
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(WorldError, match=r"words.*not found.*data that its library downloads"):
        make("gem:game:Wordle-v0-easy")


@pytest.mark.parametrize(
    ("name", "module", "hint"),
    [
        ("gem:game:Sudoku-v0-easy", "gem", r"pip install 'llm-gym\[gem\]'"),
        ("textarena:FrozenLake-v0", "textarena", r"pip install 'llm-gym\[textarena\]'"),
        ("skyrl_gym:gsm8k", "skyrl_gym", r"pip install 'llm-gym\[skyrl\]'"),
        ("openenv:http://127.0.0.1:1", "openenv.core.generic_client", r"'llm-gym\[openenv\]'"),
        ("reasoning_gym:gcd", "llm_gym_reasoning.world", "pip install llm-gym-reasoning"),
    ],
)
def test_a_missing_library_is_named(monkeypatch, name, module, hint):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=hint):
        world_maker(name, 1, {})()


def test_an_address_is_no_id():
    with pytest.raises(ValueError, match="must be an address"):
        world_maker("openenv:echo", 1, {})()
