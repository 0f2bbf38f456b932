"""From votes to preferences to train on, and back from a file's preferences to votes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from llm_gym.feedback.preferences.records import (
    Choice,
    Comparison,
    Preference,
    Vote,
    rater_of,
)

Ties = Literal["drop", "both"]
Conflicts = Literal["majority", "all", "drop"]

# What the votes add to a row's columns. Not called `margin`: TRL's RewardTrainer takes a column of
# that name as the margin of its loss (https://github.com/huggingface/trl/pull/719).
OWN_COLUMNS = frozenset(
    {"rater", "seconds", "created_at", "shown_first", "tie"}
    | {"raters", "votes_for", "votes_against", "votes_tied", "vote_margin"}
)


def to_preferences(
    comparisons: Iterable[Comparison],
    votes: Iterable[Vote],
    *,
    ties: Ties = "drop",
    conflicts: Conflicts = "majority",
) -> list[Preference]:
    """Makes rows to train on out of votes. Skips count for nothing.

    With `conflicts="majority"` or `"drop"` a row is a comparison, preferred by more votes than
    not; `raters`, `votes_for`, `votes_against`, `votes_tied` and `vote_margin` (the difference as a
    share of all its votes, in (0, 1]) are added to its columns. A comparison whose votes for the
    two answers are equal in number, none included, is tied.

    With `conflicts="all"` a row is a vote; `rater`, `seconds`, `created_at` and `shown_first`
    ("chosen" or "rejected") are added. Columns of these names that a comparison has of its own are
    left out.

    Args:
        comparisons: With their numbers.
        votes: On them.
        ties: "drop" leaves out what is tied; "both" gives it two rows, one in each direction, with
            a column `tie` that is True, which pulls a Bradley-Terry model to even odds.
        conflicts: What becomes of comparisons on which raters differ: "majority" follows the
            majority, "drop" leaves them out, "all" keeps every vote as a row.

    Returns:
        The rows, in the order of the comparisons, then of the votes.

    Raises:
        ValueError: Another policy.
    """
    if ties not in ("drop", "both"):
        raise ValueError(f"ties must be 'drop' or 'both', got {ties!r}")
    if conflicts not in ("majority", "all", "drop"):
        raise ValueError(f"conflicts must be 'majority', 'all' or 'drop', got {conflicts!r}")
    votes_on: dict[int, list[Vote]] = defaultdict(list)
    for vote in votes:
        if vote.choice is not Choice.SKIP:
            votes_on[vote.comparison_id].append(vote)
    return [
        row
        for comparison in comparisons
        if comparison.id is not None and comparison.id in votes_on
        for row in _rows(comparison, votes_on[comparison.id], ties, conflicts)
    ]


def number_of_votes(preferences: Sequence[Preference]) -> int:
    """How many votes became rows with `conflicts="all"` and `ties="both"`."""
    rows_of_ties = sum(row.columns.get("tie") is True for row in preferences)
    return len(preferences) - rows_of_ties // 2


def to_votes(preferences: Sequence[Preference], rater: str) -> list[tuple[Comparison, Vote]]:
    """Reads preferences as votes: the inverse of `to_preferences(conflicts="all")`.

    Args:
        preferences: Rows of a file; columns as `to_preferences` adds them are understood.
        rater: The name for rows that have none. The n-th row of one rater on the same pair gets
            " (n)" behind the name, from the second on, so that no row is lost.

    Returns:
        For each row, the pair with `chosen` first, and the vote on it (with `comparison_id=0`). The
        two rows of a tie give one.
    """
    made: list[tuple[Comparison, Vote]] = []
    seen: Counter[tuple[str, frozenset[str], str]] = Counter()
    mirrored: set[tuple[str, str, str, str]] = set()
    for row in preferences:
        name = rater_of(row.columns) or rater
        is_tie = row.columns.get("tie") is True
        if is_tie and (name, row.prompt, row.rejected, row.chosen) in mirrored:
            mirrored.remove((name, row.prompt, row.rejected, row.chosen))
            continue
        if is_tie:
            mirrored.add((name, row.prompt, row.chosen, row.rejected))
        pair = (row.prompt, frozenset((row.chosen, row.rejected)), name)
        seen[pair] += 1
        suffix = f" ({seen[pair]})" if seen[pair] > 1 else ""
        comparison = Comparison(row.prompt, (row.chosen, row.rejected), _foreign(row.columns))
        choice = Choice.TIE if is_tie else Choice.FIRST
        made.append((comparison, _vote(name + suffix, choice, row.columns)))
    return made


def _rows(
    comparison: Comparison, votes: list[Vote], ties: Ties, conflicts: Conflicts
) -> Iterator[Preference]:
    if conflicts == "all":
        for vote in votes:
            yield from _one_vote(comparison, vote, ties)
        return
    counts = Counter(vote.choice for vote in votes)
    first, second = counts[Choice.FIRST], counts[Choice.SECOND]
    if conflicts == "drop" and first and second:
        return
    columns = {
        **_foreign(comparison.columns),
        "raters": sorted(vote.rater for vote in votes),
        "votes_for": max(first, second),
        "votes_against": min(first, second),
        "votes_tied": counts[Choice.TIE],
        "vote_margin": abs(first - second) / len(votes),
    }
    choice = Choice.TIE if first == second else Choice.FIRST if first > second else Choice.SECOND
    yield from _directed(comparison, choice, columns, columns, ties)


def _one_vote(comparison: Comparison, vote: Vote, ties: Ties) -> Iterator[Preference]:
    columns = {
        **_foreign(comparison.columns),
        "rater": vote.rater,
        "seconds": vote.seconds,
        "created_at": vote.created_at,
    }
    first_chosen, second_chosen = (
        {**columns, "shown_first": "chosen" if vote.shown_first == chosen else "rejected"}
        for chosen in (0, 1)
    )
    yield from _directed(comparison, vote.choice, first_chosen, second_chosen, ties)


def _directed(
    comparison: Comparison,
    choice: Choice,
    first_chosen: Mapping[str, Any],
    second_chosen: Mapping[str, Any],
    ties: Ties,
) -> Iterator[Preference]:
    """One row for a choice; two or none for a tie. Which columns depends on the direction."""
    first, second = comparison.answers
    tied = {"tie": True} if choice is Choice.TIE else {}
    if tied and ties == "drop":
        return
    if choice in (Choice.FIRST, Choice.TIE):
        yield Preference(comparison.prompt, first, second, {**first_chosen, **tied})
    if choice in (Choice.SECOND, Choice.TIE):
        yield Preference(comparison.prompt, second, first, {**second_chosen, **tied})


def _foreign(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if name not in OWN_COLUMNS}


def _vote(rater: str, choice: Choice, columns: Mapping[str, Any]) -> Vote:
    """A vote with what the columns say of it; what is missing or of another type is left open."""
    seconds, created_at = columns.get("seconds"), columns.get("created_at")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
        seconds = 0.0
    return Vote(
        comparison_id=0,
        rater=rater,
        choice=choice,
        seconds=seconds,
        shown_first=1 if columns.get("shown_first") == "rejected" else 0,
        created_at=created_at if isinstance(created_at, str) else "",
    )
