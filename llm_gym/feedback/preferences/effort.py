"""What human judgement takes: votes, hours, money, and how that grows.

The arithmetic is trivial and that is the point: a person gives a verdict in tens of seconds, a
training run asks for one for every answer it samples. A reward model is bought once and asked as
often as one likes. The notes say so under every question.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llm_gym.feedback.preferences.agreement import raw_agreement, vote_table
from llm_gym.feedback.preferences.records import Choice, Vote
from llm_gym.scorers.checking import finite_number

ASSUMED_SECONDS_PER_VOTE = 30.0
"""For reading two short answers and deciding: an assumption, until votes have been measured."""

ASSUMED_PRICE_PER_HOUR = 20.0
"""Of one rater, in whatever currency the reader pays: an assumption."""

HOURS_PER_DAY = 8.0


@dataclass(frozen=True)
class Effort:
    """What a number of judgements takes.

    Attributes:
        judgements: Comparisons, or answers to be scored.
        votes_per_judgement: Raters who look at each.
        seconds_per_vote: Seconds per vote of one rater.
        votes_measured: Votes that `seconds_per_vote` was measured on; 0 if it is assumed.
        price_per_hour: Price per hour of one rater.
        is_price_assumed: Whether that is the figure of this module.
    """

    judgements: int
    votes_per_judgement: int
    seconds_per_vote: float
    votes_measured: int
    price_per_hour: float
    is_price_assumed: bool

    @property
    def votes(self) -> int:
        """Votes in all."""
        return self.judgements * self.votes_per_judgement

    @property
    def hours(self) -> float:
        """Hours of one person."""
        return self.votes * self.seconds_per_vote / 3600

    @property
    def cost(self) -> float:
        """In the currency of the price."""
        return self.hours * self.price_per_hour

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "judgements": self.judgements,
            "votes_per_judgement": self.votes_per_judgement,
            "votes": self.votes,
            "seconds_per_vote": self.seconds_per_vote,
            "seconds_measured_on_votes": self.votes_measured,
            "hours": self.hours,
            "price_per_hour": self.price_per_hour,
            "price_is_assumed": self.is_price_assumed,
            "cost": self.cost,
        }

    def describe(self) -> str:
        """One sentence that says what is measured and what is assumed."""
        many = "" if self.votes_measured == 1 else "s"
        source = f"measured on {self.votes_measured:,} vote{many}"
        source = source if self.votes_measured else "assumed"
        price = "assumed" if self.is_price_assumed else "given"
        return (
            f"{self.votes:,} votes at {self.seconds_per_vote:.1f} s each ({source}) are "
            f"{_duration(self.hours)}, and cost {self.cost:,.2f} at {self.price_per_hour:g} an "
            f"hour ({price})"
        )


def labelling_effort(
    judgements: int,
    *,
    votes_per_judgement: int = 1,
    votes: Iterable[Vote] | None = None,
    seconds_per_vote: float | None = None,
    price_per_hour: float | None = None,
) -> Effort:
    """What it takes people to give a number of judgements.

    Args:
        judgements: Comparisons, or answers to be scored.
        votes_per_judgement: Raters who look at each.
        votes: Votes whose time is taken as the measure, if there is one among them that took time.
        seconds_per_vote: Seconds per vote of one rater, known from elsewhere (assumed, as the text
            then says); None measures it on `votes`, or assumes `ASSUMED_SECONDS_PER_VOTE`.
        price_per_hour: Price per hour of one rater; None assumes `ASSUMED_PRICE_PER_HOUR`.

    Returns:
        Votes, hours and cost.

    Raises:
        ValueError: A number out of range, or both `votes` and `seconds_per_vote`.
    """
    for name, count, least in (
        ("judgements", judgements, 0),
        ("votes_per_judgement", votes_per_judgement, 1),
    ):
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise ValueError(f"{name} must be a whole number from {least} on, got {count!r}")
    if votes is not None and seconds_per_vote is not None:
        raise ValueError("pass votes to measure on or seconds_per_vote, not both")
    measured = None if votes is None else measured_seconds(votes)
    seconds, number = measured or (ASSUMED_SECONDS_PER_VOTE, 0)
    if seconds_per_vote is not None:
        seconds = finite_number("seconds_per_vote", seconds_per_vote)
        if seconds <= 0:
            raise ValueError(f"seconds_per_vote must be above 0, got {seconds_per_vote!r}")
    price = ASSUMED_PRICE_PER_HOUR if price_per_hour is None else price_per_hour
    if finite_number("price_per_hour", price) < 0:
        raise ValueError(f"price_per_hour must be at least 0, got {price_per_hour!r}")
    return Effort(
        judgements, votes_per_judgement, seconds, number, float(price), price_per_hour is None
    )


def measured_seconds(votes: Iterable[Vote], *, longest: float = 600.0) -> tuple[float, int] | None:
    """Mean time of a vote, and the number of votes it is the mean of.

    Args:
        votes: Ties and skips included, since they take time too; votes that took none (simulated,
            imported) are left out.
        longest: Votes that took longer are left out too: the rater was away.

    Returns:
        Seconds and number; None if nothing was measured.
    """
    times = [vote.seconds for vote in votes if 0 < vote.seconds <= longest]
    return (sum(times) / len(times), len(times)) if times else None


def answers_scored(tokens: int, tokens_per_answer: float) -> int:
    """How many answers a training run asks a scorer about.

    Args:
        tokens: Steps of the environment (`total_timesteps`): one token each.
        tokens_per_answer: Mean length.

    Returns:
        The number, rounded up.

    Raises:
        ValueError: A number below 1.
    """
    if tokens < 1 or finite_number("tokens_per_answer", tokens_per_answer) < 1:
        raise ValueError(
            f"tokens={tokens!r} and tokens_per_answer={tokens_per_answer!r} must be at least 1"
        )
    return math.ceil(tokens / tokens_per_answer)


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.1f} minutes of one person"
    if hours < HOURS_PER_DAY:
        return f"{hours:.1f} hours of one person"
    days = hours / HOURS_PER_DAY
    return f"{hours:,.1f} hours of one person ({days:,.1f} working days of {HOURS_PER_DAY:g} hours)"


# ------------------------------------------------------------------ in sentences, for raters


# `llm-gym demo` trains for 100,000 tokens; an email of the model it starts from has 43 on average
# (`llm-gym evaluate llm_gym/email-sft`).
RUN_ANSWERS = answers_scored(100_000, 43)


def vote_notes(votes: Sequence[Vote]) -> tuple[str, ...]:
    """About the votes in a store.

    Args:
        votes: All that stand, skips included.

    Returns:
        Sentences: agreement where several raters judged the same pairs; votes and hours; what one
        training run would ask for at this pace.
    """
    notes = []
    table, _, raters = vote_table(votes)
    shared = raw_agreement(table)
    if shared.n:
        pairs = "1 shared pair" if shared.n == 1 else f"{shared.n:,} shared pairs"
        notes.append(f"{len(raters)} raters say the same on {100 * shared.value:.0f} % of {pairs}")
    cast = sum(vote.choice is not Choice.SKIP for vote in votes)
    times = measured_seconds(votes)
    if cast and times is not None:
        hours = sum(vote.seconds for vote in votes) / 3600
        notes.append(f"{_counted(cast, 'vote')} so far: {in_hours(hours)} of people's time")
    return (*notes, _run_note(None if times is None else times[0]))


def score_notes(answers: int, seconds: float) -> tuple[str, ...]:
    """About the answers that people gave to a `HumanScorer`.

    Args:
        answers: How many.
        seconds: That they took in all.

    Returns:
        Sentences: answers and hours; what one training run would ask for at this pace.
    """
    if not answers or not seconds:
        return (_run_note(None),)
    spent = f"{_counted(answers, 'answer')} so far: {in_hours(seconds / 3600)} of people's time"
    return spent, _run_note(seconds / answers)


def in_hours(hours: float) -> str:
    """A length of time, in seconds, minutes or hours."""
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 1.5 else f"{hours:,.1f} hours"


def _run_note(seconds_per_vote: float | None) -> str:
    effort = labelling_effort(RUN_ANSWERS, seconds_per_vote=seconds_per_vote)
    pace = (
        f"if each took {ASSUMED_SECONDS_PER_VOTE:.0f} s"
        if seconds_per_vote is None
        else "at this pace"
    )
    return (
        f"One small training run wants {RUN_ANSWERS:,} judgements: {in_hours(effort.hours)} {pace}"
    )


def _counted(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"
