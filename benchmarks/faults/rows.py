"""A row of the table of faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llm_gym.statistics.shares import share_interval


class Row(NamedTuple):
    """What was tried, and how often it went well.

    Attributes:
        what: What was tried.
        good: How often it went as it should.
        tried: How often it was tried.
        failures: One line for each time that it did not.
    """

    what: str
    good: int
    tried: int
    failures: list[str]


def with_interval(row: Row) -> str:
    """How many of how many, and the 95 % interval of the share by Wilson, for a line of text."""
    if not row.tried:
        return "0 of 0"
    low, high = share_interval(row.good / row.tried, row.tried)
    return f"{row.good} of {row.tried} ({low:.1%} to {high:.1%})"


def tally(what: str, cases: Sequence[Any], problem: Callable[[Any], str | None]) -> Row:
    """A row of cases that are tried one after the other.

    Args:
        what: What they are.
        cases: Each says with `what` what it is.
        problem: Tries one, and says what is wrong with how it went.
    """
    failures = [f"{case.what}: {found}" for case in cases if (found := problem(case))]
    return Row(what, len(cases) - len(failures), len(cases), failures)
