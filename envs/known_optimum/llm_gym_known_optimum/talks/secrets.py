"""Games in which the world thinks of something and the agent finds out what, in few turns."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

from llm_gym_known_optimum.talks.talk import VOID, Outcome, Talk, check_turns

__all__ = ["ANIMALS", "WORDS", "GuessTheNumber", "SecretTalk", "TwentyQuestions", "Wordle"]

#: Secrets of the small Wordle.
WORDS = (
    "bad", "bag", "bat", "bed", "beg", "bet", "dab", "dad",
    "ebb", "egg", "gab", "gag", "get", "tab", "tag", "tea",
)  # fmt: skip

#: What is true of an animal, in the order of `QUESTIONS`.
ANIMALS = {
    "ant": "000010", "bat": "110001", "bee": "010010", "cat": "101000", "cow": "100100",
    "crow": "010100", "dog": "101100", "eel": "000001", "frog": "000101", "goat": "100110",
    "hen": "011100", "mouse": "100011",
}  # fmt: skip
QUESTIONS = ("fur?", "flies?", "pet?", "large?", "herd?", "night?")


class SecretTalk(Talk):
    """The world thinks of one of the secrets, each equally likely; a state is those that are left.

    Args:
        secrets: What it may think of, words that the agent may say.
        words: All that the agent may say.
        first: The world's first text.
        hit: What it says when the secret was said.
        max_turns: Turns after which the conversation ends.
        turn_cost: What a turn without a hit costs; the hit pays 1.
    """

    def __init__(
        self,
        secrets: Sequence[str],
        words: Sequence[str],
        *,
        first: str,
        hit: str,
        max_turns: int,
        turn_cost: float,
    ) -> None:
        check_turns(max_turns, turn_cost)
        if len(secrets) < 2 or len(set(secrets)) < len(secrets):
            raise ValueError(f"{list(secrets)} must be two different secrets or more")
        self.secrets, self.words = tuple(secrets), tuple(words)
        self.first, self.hit, self.turn_cost = first, hit, float(turn_cost)
        self.max_turns = max_turns
        self.least = -float(turn_cost) * max_turns
        others = {self.reply(s, word) for s in self.secrets for word in self.words} - {hit}
        self.world_words = (first, hit, *sorted(others))

    def reply(self, secret: str, word: str) -> str:
        """What is answered to a word; `hit`, and only then, where it is the secret."""
        raise NotImplementedError

    def beginnings(self) -> list[Outcome]:
        """Nothing is known yet."""
        return [Outcome(1.0, self.first, 0.0, frozenset(self.secrets))]

    def outcomes(self, state: Any, word: str) -> list[Outcome]:
        """Every answer leaves the secrets that agree with it."""
        left: dict[str, list[str]] = {}
        for secret in sorted(state):
            left.setdefault(self.reply(secret, word), []).append(secret)
        return [
            self._outcome(text, len(those) / len(state), frozenset(those))
            for text, those in left.items()
        ]

    def _outcome(self, text: str, probability: float, state: Any) -> Outcome:
        if text == self.hit:
            return Outcome(probability, text, 1.0, None)
        return Outcome(probability, text, -self.turn_cost, state)

    def void(self, state: Any) -> Outcome:
        """A lost turn: nothing is found out."""
        return self._outcome(VOID, 1.0, state)

    def secret(self, rng: random.Random) -> str:
        """One of the secrets."""
        return rng.choice(self.secrets)

    def answer(self, secret: str, state: Any, word: str, rng: random.Random) -> Outcome:
        """By the secret itself."""
        text = self.reply(secret, word)
        return next(one for one in self.outcomes(state, word) if one.text == text)


class GuessTheNumber(SecretTalk):
    """See `llm_gym_known_optimum.talks.task.GuessTheNumberEnv`. A state is (lowest, highest).

    Args:
        numbers: N; the secret is a number from 1 to N.
        max_turns: Turns after which the conversation ends.
        turn_cost: What a wrong guess costs.
    """

    options: ClassVar = ("numbers", "max_turns", "turn_cost")

    def __init__(self, numbers: int = 20, max_turns: int = 10, turn_cost: float = 0.1) -> None:
        if isinstance(numbers, bool) or not isinstance(numbers, int) or numbers < 2:
            raise ValueError(f"numbers={numbers!r} must be a whole number of at least 2")
        words = [str(number) for number in range(1, numbers + 1)]
        super().__init__(
            words, words, first="guess", hit="yes", max_turns=max_turns, turn_cost=turn_cost
        )

    def reply(self, secret: str, word: str) -> str:
        """More, less, or yes."""
        if word == secret:
            return self.hit
        return "more" if int(secret) > int(word) else "less"

    def beginnings(self) -> list[Outcome]:
        """All numbers are left."""
        return [Outcome(1.0, self.first, 0.0, (1, len(self.secrets)))]

    def outcomes(self, state: Any, word: str) -> list[Outcome]:
        """What is left is an interval."""
        (low, high), guess = state, int(word)
        parts = {
            "less": (low, min(high, guess - 1)),
            "more": (max(low, guess + 1), high),
            "yes": (max(low, guess), min(high, guess)),
        }
        return [
            self._outcome(text, (last - first + 1) / (high - low + 1), (first, last))
            for text, (first, last) in parts.items()
            if first <= last
        ]


class Wordle(SecretTalk):
    """See `llm_gym_known_optimum.talks.task.WordleEnv`.

    Args:
        secrets: The words, all of one length; None is `WORDS`.
        max_turns: Turns after which the conversation ends.
        turn_cost: What a wrong guess costs.
    """

    options: ClassVar = ("secrets", "max_turns", "turn_cost")

    def __init__(
        self, secrets: Sequence[str] | None = None, max_turns: int = 6, turn_cost: float = 0.1
    ) -> None:
        secrets = WORDS if secrets is None else tuple(secrets)
        if len({len(secret) for secret in secrets}) != 1:
            raise ValueError(f"secrets={list(secrets)} must be words of one length")
        super().__init__(
            secrets,
            secrets,
            first="word?",
            hit="=" * len(secrets[0]),
            max_turns=max_turns,
            turn_cost=turn_cost,
        )

    def reply(self, secret: str, word: str) -> str:
        """A mark for each letter: `=` in its place, `+` elsewhere in the secret, `.` neither.

        A letter is marked no more often than the secret has it; places come first.
        """
        return _marks(secret, word)


@lru_cache(maxsize=2**16)
def _marks(secret: str, word: str) -> str:
    rest = Counter(s for s, w in zip(secret, word, strict=True) if s != w)
    marks = []
    for s, w in zip(secret, word, strict=True):
        marks.append("=" if s == w else "+" if rest[w] > 0 else ".")
        rest[w] -= s != w
    return "".join(marks)


class TwentyQuestions(SecretTalk):
    """See `llm_gym_known_optimum.talks.task.TwentyQuestionsEnv`.

    Args:
        max_turns: Turns after which the conversation ends.
        turn_cost: What a question or a wrong name costs.
    """

    options: ClassVar = ("max_turns", "turn_cost")

    def __init__(self, max_turns: int = 8, turn_cost: float = 0.1) -> None:
        super().__init__(
            tuple(ANIMALS),
            (*QUESTIONS, *ANIMALS),
            first="ask",
            hit="right",
            max_turns=max_turns,
            turn_cost=turn_cost,
        )

    def reply(self, secret: str, word: str) -> str:
        """Yes or no; right, for the name of the animal."""
        if word == secret:
            return self.hit
        asked = word in QUESTIONS and ANIMALS[secret][QUESTIONS.index(word)] == "1"
        return "yes" if asked else "no"
