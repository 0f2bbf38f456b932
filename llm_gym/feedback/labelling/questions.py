"""What passes between a rater and whoever wants to know: questions, replies, progress.

A *desk* hands out questions and takes replies. The page and the terminal work with any desk: the
one in front of a store of comparisons (`store_desk`) and the one at which a training run waits for
a person's judgement (`askers`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from llm_gym.feedback.preferences.records import rater_name, request_key
from llm_gym.scorers.checking import finite_number

Verdict = Literal["left", "right", "tie", "skip"]
VERDICTS: tuple[Verdict, ...] = ("left", "right", "tie", "skip")
RATER_LENGTH = 60
_DAY = 86_400.0  # seconds; a page left open overnight says nothing about how long reading takes


class ConflictError(ValueError):
    """A reply that its question cannot take, because it has been answered or is of another kind."""


class UnknownQuestionError(ConflictError):
    """A reply to a question of another desk; there it would count."""


@dataclass(frozen=True)
class Question:
    """Something to judge, as it is shown.

    Attributes:
        id: Number at its desk.
        prompt: What the model was asked.
        answers: Two to compare, in the order in which they are shown; or one to score.
        shown_first: Which of the answers, in the desk's own order, is `answers[0]`.
    """

    id: int
    prompt: str
    answers: tuple[str, ...]
    shown_first: int = 0

    @property
    def kind(self) -> Literal["comparison", "score"]:
        """What kind of judgement is asked for."""
        return "comparison" if len(self.answers) == 2 else "score"

    @property
    def fingerprint(self) -> str:
        """Of the texts, whatever their order: a number alone may mean another store's question."""
        digest = hashlib.blake2b(digest_size=8)
        for text in (self.prompt, *sorted(self.answers)):
            raw = text.encode("utf-8", errors="surrogatepass")
            digest.update(len(raw).to_bytes(8, "big") + raw)
        return digest.hexdigest()


@dataclass(frozen=True)
class Reply:
    """A person's answer to a question.

    Attributes:
        question_id: Number of the question.
        fingerprint: Changes when the question does.
        verdict: For a comparison a `Verdict`, by the side on which an answer was shown; for a score
            a number from 0 to 100, or "skip".
        shown_first: As the question had it when it was shown.
        seconds: How long it was looked at; more than a day counts as a day.
        key: The same for every repetition of one reply, and for no other.

    Raises:
        TypeError, ValueError: A field out of range, by name.
    """

    question_id: int
    fingerprint: str
    verdict: Verdict | float
    shown_first: int
    seconds: float
    key: str

    def __post_init__(self) -> None:
        if isinstance(self.verdict, str):
            if self.verdict not in VERDICTS:
                verdicts = ", ".join(VERDICTS)
                raise ValueError(f"verdict must be one of {verdicts} or a number: {self.verdict!r}")
        elif not 0 <= finite_number("verdict", self.verdict) <= 100:
            raise ValueError(f"verdict must be from 0 to 100 as a score, got {self.verdict!r}")
        if self.shown_first not in (0, 1):
            raise ValueError(f"shown_first must be 0 or 1, got {self.shown_first!r}")
        seconds = finite_number("seconds", self.seconds)
        if seconds < 0:
            raise ValueError(f"seconds must not be negative, got {self.seconds!r}")
        object.__setattr__(self, "seconds", min(seconds, _DAY))
        if not 8 <= len(self.key) <= 100:
            raise ValueError(f"key must have 8 to 100 characters, got {self.key!r:.120}")
        request_key(self.key)


@dataclass(frozen=True)
class Summary:
    """How far a rater is, and what it all takes.

    Attributes:
        rater: Whose summary it is.
        done: Questions that the rater has dealt with, skipped ones among them.
        total: Of how many; None where nobody knows.
        seconds_left: At the rater's own pace; None while that is unknown.
        undo_id: Names the reply that `Desk.undo` would take back; None if there is none.
        notes: Agreement and effort, a sentence each.
        live: A model is waiting: the next question may come at any moment, and none comes back.
    """

    rater: str
    done: int
    total: int | None
    seconds_left: float | None
    undo_id: int | None
    notes: tuple[str, ...] = ()
    live: bool = False


class Desk(Protocol):
    """Where raters come for questions. Safe to use from several threads."""

    def next(self, rater: str) -> Question | None:
        """The question for a rater; the same one until it is answered; None if there is none."""

    def answer(self, rater: str, reply: Reply) -> None:
        """Takes a reply, durably when this returns. The same key again changes nothing.

        Raises:
            UnknownQuestionError: It is not this desk's question.
            ConflictError: The question cannot take this reply.
        """

    def undo(self, rater: str, undo_id: int) -> Question | None:
        """Takes back the rater's last reply, if it is that one, and gives its question again."""

    def summary(self, rater: str) -> Summary:
        """How far the rater is."""


def checked_rater(name: Any) -> str:
    """A rater's name as it is stored.

    Args:
        name: As it was entered.

    Returns:
        The name without white space around it.

    Raises:
        TypeError: Not a text.
        ValueError: Blank, longer than `RATER_LENGTH`, or with characters nobody can see.
    """
    name = rater_name(name)
    if len(name) > RATER_LENGTH or not name.isprintable():
        raise ValueError(
            f"rater must be a name of at most {RATER_LENGTH} visible characters, got {name!r:.80}"
        )
    return name
