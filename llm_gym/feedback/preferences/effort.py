"""What human judgement takes: votes, hours, money, and how that grows.

The arithmetic is trivial and that is the point: a person gives a verdict in tens of seconds, a
training run asks for one for every answer it samples. A reward model is bought once and asked as
often as one likes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from llm_gym.feedback.preferences.records import Vote
from llm_gym.scorers.checking import finite_number

__all__ = [
    "ASSUMED_PRICE_PER_HOUR",
    "ASSUMED_SECONDS_PER_VOTE",
    "Effort",
    "answers_scored",
    "labelling_effort",
    "measured_seconds",
]

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
