"""What the votes of many people say while they come in: how many, how fast, how far they agree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from llm_gym.feedback.preferences.agreement import RaterAgreement, rater_agreement
from llm_gym.feedback.preferences.records import Choice, Vote
from llm_gym.statistics.resampling import Estimate
from llm_gym.statistics.shares import estimate_share

PACE_MINUTES = 3.0
"""Votes of the last so many minutes are the pace."""

MOST_MINUTES = 30
"""Bars of the chart: votes in each of the last so many minutes."""


@dataclass(frozen=True)
class Results:
    """How a vote of many people stands.

    Attributes:
        votes: Votes, ties among them, skips not.
        wanted: Of how many.
        skips: How often somebody declined to judge.
        ties: Votes that said "equally good".
        raters: How many people have voted.
        agreement: Between them.
        shown_first: Share of the votes, ties left out, for the answer that stood first.
        votes_per_minute: The pace of the last `PACE_MINUTES`.
        minutes: Votes in each of the last minutes, the one that is running last.
    """

    votes: int
    wanted: int
    skips: int
    ties: int
    raters: int
    agreement: RaterAgreement
    shown_first: Estimate
    votes_per_minute: float
    minutes: tuple[int, ...]

    @property
    def minutes_left(self) -> float | None:
        """At this pace; None while nobody votes."""
        left = max(self.wanted - self.votes, 0)
        if not left:
            return 0.0
        return left / self.votes_per_minute if self.votes_per_minute else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        agreement = self.agreement
        return {
            "votes": self.votes,
            "wanted": self.wanted,
            "skips": self.skips,
            "ties": self.ties,
            "raters": self.raters,
            "shared": agreement.shared,
            "same": agreement.raw.to_dict(),
            "alpha": agreement.alpha.to_dict(),
            "cohen": agreement.cohen and agreement.cohen.to_dict(),
            "shown_first": self.shown_first.to_dict(),
            "votes_per_minute": self.votes_per_minute,
            "minutes_left": self.minutes_left,
            "minutes": list(self.minutes),
        }


def results_of(votes: Sequence[Vote], remaining: int, now: datetime | None = None) -> Results:
    """What votes say.

    Args:
        votes: That stand, skips among them.
        remaining: How many more are wanted.
        now: The time, with its zone; None takes the clock's.
    """
    now = now or datetime.now(timezone.utc)
    cast = [vote for vote in votes if vote.choice is not Choice.SKIP]
    decided = [vote for vote in cast if vote.choice is not Choice.TIE]
    for_first = [vote.choice is (Choice.FIRST, Choice.SECOND)[vote.shown_first] for vote in decided]
    ages = [age for vote in cast if (age := _minutes_since(vote, now)) is not None]
    per_minute = Counter(math.floor(age) for age in ages)
    oldest = min(max(per_minute, default=0), MOST_MINUTES - 1)
    return Results(
        votes=len(cast),
        wanted=len(cast) + remaining,
        skips=len(votes) - len(cast),
        ties=len(cast) - len(decided),
        raters=len({vote.rater for vote in cast}),
        agreement=rater_agreement(cast),
        shown_first=estimate_share(for_first),
        votes_per_minute=_pace(ages),
        minutes=tuple(per_minute[age] for age in range(oldest, -1, -1)),
    )


def _pace(ages: Sequence[float]) -> float:
    """Votes a minute of late; over a shorter time where the voting has only begun."""
    recent = [age for age in ages if age <= PACE_MINUTES]
    return len(recent) / max(min(max(ages), PACE_MINUTES), 0.5) if recent else 0.0


def _minutes_since(vote: Vote, now: datetime) -> float | None:
    """Age of a vote; None where an imported one does not say when it was cast."""
    try:
        cast = datetime.fromisoformat(vote.created_at.replace("Z", "+00:00"))
    except ValueError:
        return None
    if cast.tzinfo is None:
        return None
    return max((now - cast).total_seconds(), 0.0) / 60
