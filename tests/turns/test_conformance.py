"""The conformance rules hold for turn environments, whatever their worlds."""

from __future__ import annotations

from typing import ClassVar

import gymnasium as gym
import pytest

from llm_gym.testing.conformance import EnvironmentConformance, VectorEnvironmentConformance
from tests.chat_tokenizers import TOKENIZERS
from tests.turns.worlds import Guess, Words, arguments


class TestWords(EnvironmentConformance):
    def make_env(self):
        return gym.make("llm_gym/Turns-v0", **arguments())


class TestGymnasiumTexts(EnvironmentConformance):
    def make_env(self):
        return gym.make("llm_gym/Turns-v0", **arguments(world=Guess, max_turns=5))


class TestChat(EnvironmentConformance):
    def make_env(self):
        options = {
            "tokenizer": TOKENIZERS["chatml"](),
            "context_length": 120,
            "render_mode": "ansi",
        }
        return gym.make("llm_gym/Turns-v0", **arguments(**options))


class OfRows(VectorEnvironmentConformance):
    options: ClassVar = {}

    def make_env(self, row, num_rows):
        return gym.make("llm_gym/Turns-v0", **arguments(**self.options))

    def make_vector_env(self, num_envs, autoreset_mode):
        return gym.make_vec(
            "llm_gym/Turns-v0", num_envs, autoreset_mode=autoreset_mode, **arguments(**self.options)
        )


class TestRows(OfRows):
    pass


class TestRowsWithoutThreads(OfRows):
    options: ClassVar = {"world_time_limit": None, "max_turns": 2, "on_max_length": "terminate"}


class TestRowsOfGymnasiumTexts(OfRows):
    options: ClassVar = {"world": Guess, "context_length": 20}


class TestRowsWhoseContextsBeginAnew(OfRows):
    options: ClassVar = {"max_turns": 4, "turns_in_context": 1, "context_length": 10}


class TestMaskedRows(OfRows):
    options: ClassVar = {"min_new_tokens": 2, "stop_strings": ["w3"]}


del OfRows, VectorEnvironmentConformance, EnvironmentConformance


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_limit_of_steps_is_that_of_the_wrapper(mode):
    """`max_episode_steps` of the native form is `TimeLimit` around the single one."""
    from llm_gym.testing.conformance import assert_same_vector_envs

    kwargs = arguments(world=Words, context_length=60)
    if mode == "SameStep":
        kwargs |= {"max_turns": 4, "turns_in_context": 1}
    env = gym.make_vec("llm_gym/Turns-v0", 3, autoreset_mode=mode, max_episode_steps=7, **kwargs)
    makers = [lambda: gym.wrappers.TimeLimit(gym.make("llm_gym/Turns-v0", **kwargs), 7)] * 3
    sync = gym.vector.SyncVectorEnv(makers, autoreset_mode=mode)
    assert_same_vector_envs(env, sync, seed=1, num_steps=60)
