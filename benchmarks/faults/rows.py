"""A row of the table of faults."""

from __future__ import annotations

from typing import NamedTuple


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
