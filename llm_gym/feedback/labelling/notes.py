"""What stands under the question: how far raters agree, and what their judgement takes."""

from __future__ import annotations

from collections.abc import Sequence

from llm_gym.feedback.preferences.agreement import raw_agreement, vote_table
from llm_gym.feedback.preferences.effort import (
    ASSUMED_SECONDS_PER_VOTE,
    answers_scored,
    labelling_effort,
    measured_seconds,
)
from llm_gym.feedback.preferences.records import Choice, Vote
from llm_gym.statistics.resampling import Bootstrap

__all__ = ["RUN_ANSWERS", "in_hours", "score_notes", "vote_notes"]

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
    shared = raw_agreement(table, bootstrap=Bootstrap(resamples=0))
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
