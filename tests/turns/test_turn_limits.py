"""Budgets, seeds and states of conversations: at their limits, one beyond, and in great numbers."""

from __future__ import annotations

import re

import gymnasium as gym
import numpy as np
import pytest

import llm_gym
from llm_gym import TurnEnv, TurnVectorEnv, WorldError
from llm_gym.turns.worlds import Worlds, said_by
from tests.text.helpers import EOS, word
from tests.text.helpers import arguments as of_texts
from tests.text.test_settings_as_read import as_read
from tests.turns.worlds import Scripted, arguments, raising

MANY = 300
LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_the_lowest_and_the_highest_seed_are_taken(seed):
    env = TurnEnv(**arguments())
    assert env.reset(options={"prompt_index": seed})[1]["prompt_index"] == seed


@pytest.mark.parametrize("seed", [-1, 2**31, 2**31 + 1, 2**40])
def test_any_other_seed_is_refused_with_the_range(seed):
    with pytest.raises(ValueError, match="must be from 0 to 2147483647: the world's seed"):
        TurnEnv(**arguments()).reset(options={"prompt_index": seed})


@pytest.mark.parametrize("number", [39, 40, 41, 50])
def test_a_first_text_leaves_room_for_an_answer(number):
    env = TurnEnv(**arguments(world=Scripted(" ".join(["w1"] * number))))
    if number < 40:
        env.reset(seed=0)
    else:
        with pytest.raises(ValueError, match=f"has {number} tokens, which leave no room"):
            env.reset(seed=0)


def test_a_conversation_may_have_many_turns_and_ends_with_the_last():
    env = TurnEnv(
        **arguments(world=Scripted(), max_turns=MANY, max_turn_tokens=1, turns_in_context=1)
    )
    env.reset(seed=0)
    for turn in range(1, MANY + 1):
        truncated, info = env.step(word(1))[3:]
        assert info["turn"] == turn
        assert truncated is (turn == MANY)
    assert info["end_reason"] == "max_turns"


def test_an_end_by_a_budget_is_what_the_setting_says_whatever_it_was_read_from():
    for value, ends in ("terminate", (True, False)), ("truncate", (False, True)):
        for setting in value, as_read(value):
            env = TurnEnv(**arguments(world=Scripted(), max_turns=1, on_max_length=setting))
            env.reset(seed=0)
            assert env.step(EOS)[2:4] == ends


def test_an_error_of_a_world_is_what_the_setting_says_whatever_it_was_read_from():
    for setting in "raise", as_read("raise"):
        env = TurnEnv(**arguments(world=Scripted(answers=[raising]), on_world_error=setting))
        env.reset(seed=0)
        with pytest.raises(WorldError, match="mend it, or pass on_world_error='truncate'"):
            env.step(EOS)
    for setting in "truncate", as_read("truncate"):
        env = TurnEnv(**arguments(world=Scripted(answers=[raising]), on_world_error=setting))
        env.reset(seed=0)
        truncated, info = env.step(EOS)[3:]
        assert truncated
        assert info["end_reason"] == "error"


# ------------------------------------------------------------------ states


def state_of(env, **changes):
    state = env.get_state()
    state["episodes"]["rows"][0] |= changes
    return state


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"heard": ["w1"], "said": ["w1", "w1"]}, True),
        ({"heard": ["w1"] * MANY, "said": ["w1"] * (MANY + 1)}, True),
        ({"heard": ["w1"], "said": ["w1"]}, False),
        ({"heard": ["w1"], "said": ["w1", "w1", "w1"]}, False),
        ({"seed": None}, False),
        ({"seed": None, "said": [], "running": False}, True),
        ({"ids": [4] * MANY, "by_agent": [1] * MANY}, True),
        ({"ids": [4] * 3, "by_agent": [1] * 2}, False),
        ({"ids": [4] * 3, "by_agent": [1] * 4}, False),
    ],
)
def test_a_conversation_has_one_text_more_of_the_world_and_a_mark_for_each_token(changes, fits):
    env = TurnEnv(**arguments(context_length=400))
    env.reset(seed=0)
    state = state_of(env, **changes)
    if fits:
        env.check_state("it", state)
    else:
        with pytest.raises(ValueError, match=r"rows\[0\] is no conversation"):
            env.check_state("it", state)


@pytest.mark.parametrize("letters", ["ab", "ba"])
def test_a_world_that_says_something_else_is_quoted_short(letters):
    """Whichever of the two comes first in the alphabet."""
    before, now = (letter * 79 + "yz" for letter in letters)
    env = TurnEnv(**arguments(world=Scripted(before)))
    env.reset(seed=0)
    other = TurnEnv(**arguments(world=Scripted(now)))
    quoted = f"says {now[:80]!r}, but when the state was saved it said {before[:80]!r}: "
    with pytest.raises(ValueError, match=re.escape(quoted)):
        other.set_state(env.get_state())


def test_a_conversation_at_rest_is_taken_up_without_a_word_to_the_world():
    env = TurnEnv(**arguments())
    state = env.get_state()
    other = TurnEnv(**arguments())
    other.set_state(state)
    assert other.get_state() == state


# ------------------------------------------------------------------ worlds


@pytest.mark.parametrize("method", ["reset", "step"])
def test_what_has_one_method_of_a_world_is_none(method):
    half = type("Half", (), {method: lambda self: None})
    with pytest.raises(TypeError, match=r"must have reset\(seed\) and step\(text\)"):
        TurnEnv(**arguments(world=half()))
    with pytest.raises(TypeError, match=r"which has no reset\(seed\) and step\(text\)"):
        TurnEnv(**arguments(world=half))


def test_many_rows_have_a_world_each():
    worlds = Worlds(Scripted, MANY, None)
    assert len(worlds.reset(dict.fromkeys(range(MANY), 0))) == MANY
    shared = Scripted()
    with pytest.raises(ValueError, match="makes the same world for several rows"):
        Worlds(lambda: shared, 2, None)


@pytest.mark.parametrize("number", [4, 6])
def test_an_answer_has_five_parts(number):
    answer = ("w1", 0.0, False, False, {}, None)[:number]
    env = TurnEnv(**arguments(world=Scripted(answers=[answer])))
    env.reset(seed=0)
    with pytest.raises(TypeError, match=r"not \(text, reward, terminated"):
        env.step(EOS)


@pytest.mark.parametrize("reward", [LARGEST, -LARGEST])
def test_the_largest_rewards_are_paid(reward):
    env = TurnEnv(**arguments(world=Scripted(answers=[("w1", reward, False, False, {})])))
    env.reset(seed=0)
    assert env.step(EOS)[1] == reward


@pytest.mark.parametrize("limit", [None, 60.0])
@pytest.mark.parametrize("kind", [WorldError, ImportError, gym.error.NameNotFound])
def test_an_error_that_says_it_itself_is_raised_as_it_is(kind, limit):
    error = kind("as it is")

    def make():
        raise error

    with pytest.raises(kind, match=r"^as it is$"):
        TurnEnv(**arguments(world=make, world_time_limit=limit))


def test_a_message_of_somebody_elses_is_cut_at_200_characters():
    error = KeyError("x" * 300)
    assert said_by(error) == f"KeyError: '{'x' * 189}"
    assert len(said_by(error)) == 200


def test_the_seed_of_a_world_is_given_by_name():
    env = llm_gym.TextGenerationEnv(**of_texts())
    with pytest.raises(TypeError, match="positional"):
        llm_gym.as_turns(env).reset(3)
    with pytest.raises(TypeError, match="positional"):
        TurnVectorEnv(**arguments(), num_envs=1).reset(3)
