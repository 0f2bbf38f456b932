"""Worlds of turns that tests share."""

from __future__ import annotations

import random
import time

import gymnasium as gym

from llm_gym.testing.tiny import tiny_tokenizer


class Words:
    """Says words of the tiny tokenizer that depend on its seed and on all that it was told."""

    def __init__(self, turns: int = 4, *, n_words: int = 20, longest: int = 3) -> None:
        self.turns, self.n_words, self.longest = turns, n_words, longest
        self.heard: list[str] = []

    def reset(self, *, seed):
        self._random = random.Random(seed)
        self.heard = []
        self._last = self._random.randrange(1, self.turns + 1)
        return self._say("begin")

    def step(self, text):
        self.heard.append(text)
        done = len(self.heard) == self._last
        reward = float(len(text.split())) + self._random.randrange(4)
        return (
            self._say(text),
            reward,
            done and self._last % 2 == 0,
            done and self._last % 2 == 1,
            {},
        )

    def _say(self, text):
        self._random.seed(f"{self._random.random()} {text}")
        number = self._random.randint(1, self.longest)
        return " ".join(f"w{self._random.randrange(self.n_words)}" for _ in range(number))


class Guess(gym.Env):
    """A `gymnasium.Env` of texts: guess a number, told "w0" for less and "w1" for more."""

    observation_space = action_space = gym.spaces.Text(100)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._number = int(self.np_random.integers(10))
        return "w2", {"number": self._number}

    def step(self, action):
        guess = int(action[1:]) if action[1:].isdigit() else -1
        text = "w0" if guess > self._number else "w1"
        return text, float(guess == self._number), guess == self._number, False, {"guess": guess}


class Scripted:
    """Says what it is told to say."""

    def __init__(self, first="w1", answers=(("w2", 0.0, False, False, {}),)):
        self.first, self.answers = first, answers

    def reset(self, *, seed):
        self.step_number = 0
        return self.first() if callable(self.first) else self.first

    def step(self, text):
        answer = self.answers[min(self.step_number, len(self.answers) - 1)]
        self.step_number += 1
        return answer(text) if callable(answer) else answer


def hanging(*_):
    time.sleep(1000)


def raising(*_):
    raise KeyError("no such card")


def arguments(**overrides):
    """Arguments of a turn environment on the tiny tokenizer."""
    defaults = {
        "tokenizer": tiny_tokenizer(),
        "world": Words,
        "max_turn_tokens": 4,
        "context_length": 40,
    }
    return defaults | overrides
