"""What the store keeps and what files hold: comparisons, votes, preferences."""

from __future__ import annotations

import json
import operator
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from llm_gym.files.encoding import check_text
from llm_gym.files.rows import has
from llm_gym.scorers.checking import finite_number
from llm_gym.scorers.texts import SourcedText

FIELDS = ("prompt", "chosen", "rejected")
"""Columns that every preference has, by TRL's names."""

_BEYOND = 2**63  # the first whole number that SQLite cannot hold


class Choice(str, Enum):
    """What a rater said about the two answers as they are stored, however they were shown."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    SKIP = "skip"

    @classmethod
    def _missing_(cls, value: object) -> Choice:
        choices = ", ".join(repr(choice.value) for choice in cls)
        raise ValueError(f"choice must be one of {choices}, got {value!r}")


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt, to be compared.

    Attributes:
        prompt: What was asked.
        answers: The two answers; their order means nothing.
        columns: Whatever else is known about the prompt (JSON-able), for scorers and raters.
        id: Number in the store; None before it is there.

    Raises:
        TypeError: A text that is no text, answers that are not two, columns that are no mapping.
        ValueError: An empty text, two identical answers, columns that JSON cannot hold.
    """

    prompt: str
    answers: tuple[str, str]
    columns: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.answers, str) or len(self.answers) != 2:
            raise TypeError(f"answers must be a pair of texts, got {self.answers!r:.80}")
        object.__setattr__(self, "answers", tuple(self.answers))
        check_text("prompt", self.prompt)
        for index, answer in enumerate(self.answers):
            check_text(f"answers[{index}]", answer)
        if self.answers[0] == self.answers[1]:
            raise ValueError(
                f"the two answers are identical ({self.answers[0]!r:.80}): there is nothing to "
                "compare; leave the pair out"
            )
        _check_columns(self.columns)


@dataclass(frozen=True)
class Vote:
    """One rater's judgement of one comparison.

    Attributes:
        comparison_id: Number of the comparison.
        rater: Name of the rater.
        choice: The verdict; `Choice.SKIP` is none, but says that the rater was asked.
        seconds: How long the rater took.
        shown_first: Which answer stood first (left, above): 0 or 1.
        created_at: When, UTC in ISO 8601; "" lets the store fill it in.
        id: Number in the store, in the order of arrival; None before it is there.

    Raises:
        TypeError, ValueError: A field that cannot be such a thing, by name.
    """

    comparison_id: int
    rater: str
    choice: Choice
    seconds: float
    shown_first: int
    created_at: str = ""
    id: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rater", rater_name(self.rater))
        object.__setattr__(self, "comparison_id", whole("comparison_id", self.comparison_id))
        object.__setattr__(self, "choice", Choice(self.choice))
        object.__setattr__(self, "seconds", finite_number("seconds", self.seconds))
        if self.seconds < 0:
            raise ValueError(f"seconds must be at least 0, got {self.seconds!r}")
        if self.shown_first not in (0, 1):
            raise ValueError(
                f"shown_first must be 0 or 1, the answer that stood first, got {self.shown_first!r}"
            )
        object.__setattr__(self, "shown_first", int(self.shown_first))
        if not isinstance(self.created_at, str):
            raise TypeError(f"created_at must be a text, got {self.created_at!r:.80}")


MESSAGES = "prompt_messages"
"""Column of a prompt that is a conversation: its messages, where `prompt` is their text."""


@dataclass(frozen=True)
class Preference:
    """A row of TRL's preference format: one answer was preferred to another.

    Attributes:
        prompt: What was asked.
        chosen: The preferred answer.
        rejected: The other one.
        columns: Further columns (JSON-able), such as who preferred it and by how many votes.
        place: Where it was read, for messages.

    Raises:
        TypeError: A text that is no text, columns that are no mapping.
        ValueError: An empty text, two identical answers, columns that JSON cannot hold.
    """

    prompt: str
    chosen: str
    rejected: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    place: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in FIELDS:
            check_text(name, getattr(self, name))
        if self.chosen == self.rejected:
            raise ValueError(
                f"chosen and rejected are identical ({self.chosen!r:.80}): the row says nothing; "
                "leave it out"
            )
        _check_columns(self.columns)

    def to_dict(self) -> dict[str, Any]:
        """The row as TRL reads it: the three fields, then the columns."""
        return {
            "prompt": self.prompt,
            "chosen": self.chosen,
            "rejected": self.rejected,
            **self.columns,
        }


def asked(row: Comparison | Preference) -> str:
    """The prompt of a row, which remembers the conversation if it is one."""
    messages = row.columns.get(MESSAGES)
    return row.prompt if messages is None else SourcedText(row.prompt, messages)


@dataclass(frozen=True)
class Progress:
    """How far the labelling has come, in all or for one rater.

    Attributes:
        comparisons: Comparisons in the store.
        voted: Those with at least one vote (skips are no votes).
        votes: Votes, ties among them, skips not.
        ties: Votes that said "equally good".
        skips: How often a rater declined to judge.
        remaining: Votes still wanted; of one rater, comparisons that the rater may still be asked.
        by_rater: Votes of each rater (skips not counted; a rater who only skipped has 0).
        seconds: Time that all votes and skips took.
    """

    comparisons: int
    voted: int
    votes: int
    ties: int
    skips: int
    remaining: int
    by_rater: Mapping[str, int]
    seconds: float


def rater_name(rater: Any) -> str:
    """A rater's name as it is stored, so that one person is one name.

    Args:
        rater: A name, or a number that serves as one: 2, 2.0 (pandas, beside missing ones) and "2"
            are the same rater.

    Returns:
        The name in Unicode's composed form (NFC), without space around it.

    Raises:
        TypeError: Something with parts, such as a list.
        ValueError: Blank, or not a text that a file can hold.
    """
    if isinstance(rater, float) and rater.is_integer():
        rater = int(rater)
    if rater is None or isinstance(rater, (Mapping, list, tuple, set, bytes)):
        raise TypeError(f"rater must be a name or a number, got {rater!r:.80}")
    name = unicodedata.normalize("NFC", str(rater)).strip()
    check_text("rater", name)
    return name


def rater_of(columns: Mapping[str, Any]) -> str | None:
    """The rater that a row's column `rater` names; None if it names none (null, NaN, blank)."""
    if not has(columns, "rater") or not str(columns["rater"]).strip():
        return None
    return rater_name(columns["rater"])


def whole(name: str, number: Any, least: int = 0) -> int:
    """A whole number that SQLite can hold: 64 bits with a sign.

    Args:
        name: Of the parameter, for messages.
        number: A Python or NumPy integer.
        least: The smallest that makes sense.

    Raises:
        TypeError: Not a whole number.
        ValueError: Below `least`, or beyond 64 bits.
    """
    try:
        value = operator.index(number)
    except TypeError:
        value = None
    if value is None or isinstance(number, bool):
        raise TypeError(f"{name} must be a whole number, got {number!r:.80}")
    if not least <= value < _BEYOND:
        shown = value if value.bit_length() < 64 else f"one of {value.bit_length()} bits"
        raise ValueError(f"{name} must be from {least} to {_BEYOND - 1}, got {shown}")
    return value


def checked_overlap(overlap: Any) -> float:
    """A share of comparisons from 0 to 1; ValueError for another number."""
    share = finite_number("overlap", overlap)
    if not 0 <= share <= 1:
        raise ValueError(f"overlap must be a share from 0 to 1, got {overlap!r}")
    return share


def request_key(key: Any) -> str:
    """The key of a request, checked.

    Args:
        key: What the caller made up.

    Raises:
        TypeError: Not a text.
        ValueError: Empty, or with characters that nobody can see.
    """
    check_text("key", key)
    if not key.isprintable():
        raise ValueError(f"key must be made of visible characters, got {key!r:.120}")
    return str(key)


def _check_columns(columns: Any) -> None:
    if not isinstance(columns, Mapping):
        raise TypeError(f"columns must be a mapping, got {columns!r:.80}")
    for name in columns:
        if not isinstance(name, str) or name in FIELDS:
            raise ValueError(f"a column may not be called {name!r}; rename the column")
    try:
        json.dumps(dict(columns), allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"columns cannot be written as JSON: {error}") from None
