"""A conversation as a finite game: what can be known, what may be said, what is answered, and pay.

A state is all that the conversation so far tells: the numbers that are left, the hand and the
dealer's card. So the best policy is found over states, exactly, and the world that an agent talks
to draws from the same tables.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from llm_gym.files.ranges import check_numbers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Optimum", "Outcome", "Talk", "TalkWorld", "solve", "value_of_choices"]

State = Hashable

VOID = "void"
"""What the world says to a word that is none of the agent's."""


@dataclass(frozen=True)
class Outcome:
    """What the world may do next.

    Attributes:
        probability: How likely it is, given the state and the word.
        text: What it says, words with spaces between.
        reward: What it pays.
        state: What is known then; `None` where the conversation is over.
    """

    probability: float
    text: str
    reward: float
    state: State | None


class Talk(ABC):
    """A game of turns. An agent's turn is one word, and every word is a token.

    Attributes:
        words: Words that the agent may say, W of them. They are the first tokens.
        world_words: All other words, which only the world says.
        max_turns: Turns after which the conversation ends.
        longest: Most words of the world's first text, and of any other.
        forfeit: What a word pays that is none of the agent's, and ends the conversation (`void`).
        least: What is still to come is never less, whatever the state.
        most: And never more.
    """

    #: Names of the constructor's arguments.
    options: ClassVar[tuple[str, ...]] = ()

    words: tuple[str, ...]
    world_words: tuple[str, ...]
    max_turns: int
    longest: tuple[int, int] = (1, 1)
    forfeit: float = -1.0
    least: float
    most: float = 1.0

    @abstractmethod
    def beginnings(self) -> Sequence[Outcome]:
        """What the world may say first; nothing is paid yet."""

    @abstractmethod
    def outcomes(self, state: Any, word: str) -> Sequence[Outcome]:
        """What the world may answer to a word; probabilities sum to 1."""

    def void(self, state: Any) -> Outcome:
        """What the world does at a word that is none of the agent's: the conversation is lost."""
        return Outcome(1.0, VOID, self.forfeit, None)

    def secret(self, rng: random.Random) -> Any:
        """What the world thinks of before a conversation; None: nothing."""
        return None

    def answer(self, secret: Any, state: Any, word: str, rng: random.Random) -> Outcome:
        """What the world answers in one conversation: one of `outcomes`."""
        return draw(self.outcomes(state, word), rng)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All V words, in the order of their tokens."""
        return (*self.words, *self.world_words, VOID)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A tokenizer whose tokens are the words: the agent's, then the world's."""
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import WhitespaceSplit
        from transformers import PreTrainedTokenizerFast

        words = self.vocabulary
        core = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token=words[-1]))
        core.pre_tokenizer = WhitespaceSplit()
        return PreTrainedTokenizerFast(tokenizer_object=core)

    def ids(self, text: str) -> tuple[int, ...]:
        """The tokens of a text."""
        places = {word: i for i, word in enumerate(self.vocabulary)}
        return tuple(places[word] for word in text.split())


def draw(outcomes: Sequence[Outcome], rng: random.Random) -> Outcome:
    """One outcome, by the probabilities."""
    return rng.choices(outcomes, [outcome.probability for outcome in outcomes])[0]


def check_turns(max_turns: int, turn_cost: float = 0.0) -> None:
    """Refuses numbers that games share, if they make none.

    Raises:
        ValueError: `max_turns` is not a whole number of at least 1, or `turn_cost` is negative.
    """
    check_numbers(max_turns=max_turns)
    if not 0 <= turn_cost <= 1:
        raise ValueError(f"turn_cost={turn_cost!r} must be a number from 0 to 1")


class TalkWorld:
    """The world of one conversation after the other, for `llm_gym.TurnEnv`.

    Args:
        talk: The game.
    """

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._words = frozenset(talk.words)

    def reset(self, *, seed: int) -> str:
        """Begins anew; returns the first text."""
        self._rng = random.Random(seed)  # noqa: S311 -- a game
        self._secret = self._talk.secret(self._rng)
        first = draw(self._talk.beginnings(), self._rng)
        self._state: Any = first.state
        return first.text

    def step(self, text: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Answers a word."""
        word = text.strip()
        if word in self._words:
            found = self._talk.answer(self._secret, self._state, word, self._rng)
        else:
            found = self._talk.void(self._state)
        self._state = found.state
        return found.text, found.reward, found.state is None, False, {}


@dataclass(frozen=True)
class Optimum:
    """What the best policy is worth, and what it says.

    Attributes:
        value: `J*`, the expected sum of (discounted) rewards.
        turns: Expected turns of the policy that says the first of the best words.
        q: Values of all words by (state, turns that are left).
    """

    value: float
    turns: float
    q: Mapping[tuple[Any, int], Mapping[str, float]]

    def best_words(self, state: Any, turns_left: int, *, tolerance: float = 1e-9) -> list[str]:
        """The words that are as good as the best."""
        values = self.q[state, turns_left]
        best = max(values.values())
        return [word for word, value in values.items() if value >= best - tolerance]


def solve(talk: Talk, *, turn_gamma: float = 1.0) -> Optimum:
    """The optimum, by dynamic programming over what can be known and the turns that are left.

    Args:
        talk: The game.
        turn_gamma: Discount at the end of a turn; the reward of the first turn is not discounted.
    """
    q: dict[tuple[Any, int], dict[str, float]] = {}

    def worth(state: Any, left: int) -> float:
        if state is None or not left:
            return 0.0
        if (state, left) not in q:
            q[state, left] = {
                word: sum(
                    one.probability * (one.reward + turn_gamma * worth(one.state, left - 1))
                    for one in talk.outcomes(state, word)
                )
                for word in talk.words
            }
        return max(q[state, left].values())

    firsts = talk.beginnings()
    value = sum(one.probability * worth(one.state, talk.max_turns) for one in firsts)
    found = Optimum(value, 0.0, q)
    _, turns = value_of_choices(
        talk, lambda state, left: {found.best_words(state, left)[0]: 1.0}, turn_gamma=turn_gamma
    )
    return Optimum(value, turns, q)


def value_of_choices(
    talk: Talk,
    choose: Callable[[Any, int], Mapping[str, float]],
    *,
    turn_gamma: float = 1.0,
) -> tuple[float, float]:
    """The value and the expected turns of a policy that goes by states alone, exactly.

    Args:
        talk: The game.
        choose: Probabilities of words, by a state and the turns that are left.
        turn_gamma: Discount at the end of a turn.
    """
    known: dict[tuple[Any, int], tuple[float, float]] = {}

    def worth(state: Any, left: int) -> tuple[float, float]:
        if state is None or not left:
            return 0.0, 0.0
        if (state, left) not in known:
            value, turns = 0.0, 1.0
            for word, share in choose(state, left).items():
                for one in talk.outcomes(state, word):
                    later, more = worth(one.state, left - 1)
                    value += share * one.probability * (one.reward + turn_gamma * later)
                    turns += share * one.probability * more
            known[state, left] = value, turns
        return known[state, left]

    found = [(one.probability, *worth(one.state, talk.max_turns)) for one in talk.beginnings()]
    return sum(p * value for p, value, _ in found), sum(p * turns for p, _, turns in found)
