"""The worlds that are to be learnt, and how, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from string import ascii_lowercase
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """A world, and what learns it.

    Attributes:
        answers: What a player can say, a token each.
        world_kwargs: Arguments of the world.
        held_out: Those that are others where it is evaluated.
        player: Who plays the other seat, a name in `PLAYERS`.
        max_turn_tokens: Of the agent.
        max_turns: Of the agent.
        turns_in_context: See `llm_gym/Turns-v0`.
        context_length: Tokens of all that is read.
        tokens: Of the agent in training.
        learning_rate: At the beginning; it falls to zero.
        n_steps: Tokens of a row between two updates.
        ent_coef: Of PPO.
        most_words: In the vocabulary, beside the answers.
        spelt: Letters are read, not words.
    """

    answers: Sequence[str]
    world_kwargs: dict[str, Any] = field(default_factory=dict)
    held_out: dict[str, Any] = field(default_factory=dict)
    player: str = ""
    max_turn_tokens: int = 1
    max_turns: int = 1
    turns_in_context: int | None = None
    context_length: int = 96
    tokens: int = 12_288
    learning_rate: float = 3e-3
    n_steps: int = 16
    ent_coef: float = 0.01
    most_words: int = 96
    spelt: bool = False


def boxed(answers: Sequence[Any]) -> list[str]:
    r"""As GEM reads them: `\boxed{7}`."""
    return [rf"\boxed{{{answer}}}" for answer in answers]


_WAYS = ("up", "down", "left", "right")
_SEATS = {"num_players": 2}
_TEST = {"split": "test"}
_CELLS = [f"{row} {column}" for row in range(5) for column in range(5)]
_RELATIONS = (
    "mother", "father", "son", "daughter", "wife", "husband", "grandmother", "grandfather",
    "sister", "brother", "mother-in-law", "father-in-law",
)  # fmt: skip
_COLOURS = (
    "red", "green", "blue", "yellow", "white", "orange", "purple", "pink", "brown", "gray",
    "black", "cyan", "magenta", "gold", "silver", "indigo", "violet",
)  # fmt: skip


def _sums(numbers: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{a} + {b}", "reward_spec": {"ground_truth": str(a + b)},
         "reward_model": {"ground_truth": str(a + b)}}
        for a, b in numbers
    ]  # fmt: skip


_PAIRS = [(a, b) for a in range(10) for b in range(10)]
_HELD_OUT = [pair for pair in _PAIRS if (3 * pair[0] + 7 * pair[1]) % 5 == 0]
_TRAINED = [pair for pair in _PAIRS if pair not in _HELD_OUT]

RECIPES: dict[str, Recipe] = {
    "reasoning_gym:gcd": Recipe([str(n) for n in range(1, 13)], held_out=_TEST),
    "reasoning_gym:isomorphic_strings": Recipe(("True", "False"), held_out=_TEST, spelt=True),
    "reasoning_gym:syllogism": Recipe(("Yes", "No"), held_out=_TEST),
    "reasoning_gym:family_relationships": Recipe(_RELATIONS, held_out=_TEST),
    "reasoning_gym:chain_sum": Recipe(
        [str(n) for n in range(19)],
        {"settings": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}}, _TEST,
    ),
    "reasoning_gym:spell_backward": Recipe(
        list(ascii_lowercase), {"settings": {"min_word_len": 3, "max_word_len": 4}}, _TEST,
        max_turn_tokens=5, spelt=True,
    ),
    "reasoning_gym:aiw": Recipe([str(n) for n in range(13)], held_out=_TEST, context_length=160),
    "reasoning_gym:color_cube_rotation": Recipe(_COLOURS, held_out=_TEST, context_length=160),
    "skyrl_gym:gsm8k": Recipe(
        [f"#### {n}" for n in range(19)], {"tasks": _sums(_TRAINED)}, {"tasks": _sums(_HELD_OUT)}
    ),
    "skyrl_gym:aime": Recipe(
        [f"Answer: {n}" for n in range(19)], {"tasks": _sums(_TRAINED)}, {"tasks": _sums(_HELD_OUT)}
    ),
    "textarena:Secretary-v0": Recipe(("accept", "continue"), max_turns=6, context_length=128),
    "textarena:FrozenLake-v0": Recipe(
        _WAYS, max_turns=20, turns_in_context=1, context_length=128
    ),
    "textarena:Blackjack-v0": Recipe(
        ("Hit", "Stand"), max_turns=30, turns_in_context=1, context_length=96
    ),
    "textarena:GuessTheNumber-v0": Recipe(
        [str(n) for n in range(1, 21)], max_turns=10, context_length=256
    ),
    "textarena:IteratedRockPaperScissors-v0": Recipe(
        ("rock", "paper", "scissors"), _SEATS, player="in_turn", max_turns=9, context_length=256
    ),
    "textarena:Nim-v0": Recipe(
        [f"{pile} {number}" for pile in range(3) for number in range(1, 6)],
        _SEATS, player="one_match", max_turns=12, turns_in_context=1, context_length=128,
    ),
    "gem:game:GuessTheNumber-v0-easy": Recipe(
        boxed(range(1, 11)), max_turns=4, context_length=256
    ),
    "gem:game:FifteenPuzzle-v0-easy": Recipe(
        boxed(_WAYS), max_turns=16, turns_in_context=1, context_length=64
    ),
    "gem:game:Minesweeper-v0-easy": Recipe(
        boxed([f"reveal {cell}" for cell in _CELLS]),
        max_turns=10, turns_in_context=1, context_length=96,
    ),
    "gem:game:TowerofHanoi-v0-easy": Recipe(
        boxed([f"{a} {b}" for a, b in permutations("ABC", 2)]),
        max_turns=20, turns_in_context=1, context_length=96,
    ),
    "gem:game:Game2048-v0-easy": Recipe(
        boxed(_WAYS), max_turns=30, turns_in_context=1, context_length=96
    ),
    "textarena:TicTacToe-v0": Recipe(
        [str(n) for n in range(9)],
        _SEATS, player="any_move", max_turns=5, turns_in_context=1, context_length=256,
    ),
    "textarena:ConnectFour-v0": Recipe(
        [f"col {n}" for n in range(7)],
        _SEATS, player="any_column", max_turns=21, turns_in_context=1, context_length=256,
    ),
    "gem:game:Mastermind-v0-easy": Recipe(
        boxed([f"{a} {b}" for a, b in permutations(range(1, 7), 2)]),
        max_turns=10, context_length=512,
    ),
}  # fmt: skip
