"""What nobody can mean as an option, a world or a turn: refused by name, when it is given."""

from __future__ import annotations

import re

import gymnasium as gym
import numpy as np
import pytest

import llm_gym
from llm_gym.stages.environment import TurnConfig, check_conversations
from llm_gym.testing.tiny import tiny_tokenizer


class Echo:
    def __init__(self, **settings: object) -> None:
        self.settings = settings

    def reset(self, *, seed):
        return "w0"

    def step(self, text):
        return "w1", 1.0, False, False, {}


def turns(**options: object) -> gym.Env:
    settings = {"world": Echo, "max_turn_tokens": 4, "context_length": 16} | options
    return gym.make("llm_gym/Turns-v0", tokenizer=tiny_tokenizer(5), **settings)


def texts(**options: object) -> gym.Env:
    def score(prompts, completions, **_):
        return [0.0] * len(completions)

    settings = {"prompts": ["w0"], "scorer": score, "max_new_tokens": 4} | options
    return gym.make("llm_gym/TextGeneration-v0", tokenizer=tiny_tokenizer(5), **settings)


@pytest.mark.parametrize("make", [turns, texts])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stop_strings", None),
        ("stop_strings", 5),
        ("eos_token_id", True),
        ("eos_token_id", [1, True]),
        ("eos_token_id", 2**70),
        ("forbidden_token_ids", [False, True]),
        ("forbidden_token_ids", np.array([True, False])),
        ("allowed_token_ids", [True, False, True]),
        ("add_special_tokens", "yes"),
        ("add_special_tokens", 1),
    ],
)
def test_an_option_that_is_none_is_named(make, name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name}"):
        make(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("turn_template", 5),
        ("turn_template", ["{text}"]),
        ("turn_template", b"{text}"),
        ("world", ""),
        ("world", " "),
        ("world_kwargs", []),
        ("world_kwargs", "a=1"),
        ("world_kwargs", {1: 1}),
        ("min_new_tokens", 5),
        ("min_new_tokens", "2"),
    ],
)
def test_an_option_of_conversations_that_is_none_is_named(name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name}="):
        turns(**{name: value})


def test_more_tokens_than_a_turn_has_are_told_by_the_names_of_turns():
    with pytest.raises(ValueError, match=r"^min_new_tokens=5 is more than max_turn_tokens=4"):
        turns(min_new_tokens=5)


@pytest.mark.parametrize("make", [turns, texts])
def test_stop_strings_that_can_be_read_once_end_answers_all_the_same(make):
    env = make(stop_strings=(stop for stop in ["w2"]))
    for _ in range(2):
        env.reset(seed=0)
        assert env.step(5)[4]["stop_reason"] == "stop_string"


def test_the_answer_of_a_function_is_no_mask():
    env = texts(allowed_token_ids=lambda prompt, completion: [True] * 8)
    with pytest.raises(TypeError, match="the answer of allowed_token_ids must be token ids"):
        env.reset(seed=0)


@pytest.mark.parametrize("make", [turns, texts])
@pytest.mark.parametrize("options", [5, "prompt_index", ["prompt_index"]])
def test_reset_options_are_a_dict(make, options):
    env = make()
    with pytest.raises(TypeError, match=rf"^options={re.escape(repr(options))} must be a dict"):
        env.unwrapped.reset(options=options)


@pytest.mark.parametrize("env", [None, 5, "llm_gym/PoliteEmail-v0", Echo()])
def test_only_an_environment_of_tokens_is_made_a_world(env):
    with pytest.raises(TypeError, match=r"^env=.* must be a single environment of tokens"):
        llm_gym.as_turns(env)


@pytest.mark.parametrize("text", [None, 5, b"w1", ["w1"], "\ud800"])
def test_a_turn_is_a_text(text):
    world = llm_gym.as_turns(turns())
    world.reset(seed=0)
    with pytest.raises((ValueError, TypeError), match=r"^(a|the) turn "):
        world.step(text)


@pytest.mark.parametrize("name", ["too_long", "bad_rows"])
def test_what_becomes_of_rows_is_no_setting_of_conversations(name):
    check_conversations("a", TurnConfig(), {name: "error"}, has_world=True)
    with pytest.raises(ValueError, match=rf"^{name}='drop' is of prompts"):
        check_conversations("a", TurnConfig(), {name: "drop"}, has_world=True)


def test_an_argument_of_a_world_is_given_once():
    assert TurnConfig(world_kwargs=["a=1", "b=1"]).world_arguments() == {"a": 1, "b": 1}
    with pytest.raises(ValueError, match=r"^world_kwargs='a=2': a has been given already"):
        TurnConfig(world_kwargs=["a=1", "a=2"]).world_arguments()
