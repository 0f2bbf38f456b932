"""A claim: what was published, where, how it is tested, and the figure that decides.

A figure has an interval. A claim is true of figures on one side of a threshold; so it holds where
the whole interval lies there, is refuted where none of it does, and is undecided otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.claims.court import Court

HOLDS, REFUTED, UNDECIDED = "holds", "refuted", "undecided"


@dataclass(frozen=True)
class Figure:
    """A number with its interval.

    Attributes:
        value: The number.
        low: Lower end of its 95 % interval; that of an exact number is the number.
        high: Upper end.
        note: What else was found, for the table.
        exact: Whether it was computed, not sampled.
    """

    value: float
    low: float
    high: float
    note: str = ""
    exact: bool = False

    def told(self) -> str:
        """The number with its interval, as the table has it."""
        if self.exact:
            return f"{_short(self.value)}, exact"
        return f"{_short(self.value)} [{_short(self.low)}, {_short(self.high)}]"


def exact(value: float, note: str = "") -> Figure:
    """A figure that was computed, not sampled."""
    return Figure(float(value), float(value), float(value), note, True)


@dataclass(frozen=True)
class Judgement:
    """What the court says of a claim.

    Attributes:
        figure: What was measured, with its interval.
        threshold: Where the claim begins to be true.
        verdict: `"holds"`, `"refuted"` or `"undecided"`.
    """

    figure: Figure
    threshold: float
    verdict: str


@dataclass(frozen=True)
class Claim:
    """What was published, and a test of it.

    Args:
        name: Name, unlike that of any other claim.
        says: What was published, in a sentence.
        source: ArXiv number, with what else finds the place; or an address.
        test: What the figure is.
        measure: Takes a `Court` and returns the figure.
        at_least: The claim is true of figures of at least this.
        at_most: Or of at most this; one of the two.

    Raises:
        ValueError: Not exactly one threshold was given.
    """

    name: str
    says: str
    source: str
    test: str
    measure: Callable[[Court], Figure]
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(
                f"claim {self.name!r} has at_least={self.at_least} and at_most={self.at_most}; "
                "give exactly one of them"
            )

    @property
    def threshold(self) -> str:
        """The side of the threshold on which the claim is true, as a text."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return f"at most {self.at_most:g}"

    def judge(self, court: Court) -> Judgement:
        """Measures and decides.

        Raises:
            ValueError: The figure is not finite, or lies outside its interval.
        """
        figure = self.measure(court)
        value, low, high = figure.value, figure.low, figure.high
        if not (all(map(math.isfinite, (value, low, high))) and low <= value <= high):
            raise ValueError(f"claim {self.name!r} has the figure {value} in [{low}, {high}]")
        if self.at_least is not None:
            threshold = self.at_least
            true, false = low >= threshold, high < threshold
        else:
            assert self.at_most is not None
            threshold = self.at_most
            true, false = high <= threshold, low > threshold
        verdict = HOLDS if true else REFUTED if false else UNDECIDED
        return Judgement(figure, threshold, verdict)


def figure_of(told: dict[str, Any], note: str = "") -> Figure:
    """A figure of `benchmarks.common.mean_with_interval`.

    Too few values for an interval may lie anywhere, so the interval is that of the values, widened
    by as much again on either side.
    """
    value = float(told["mean"])
    if told["low"] is None:
        reach = max(abs(one - value) for one in told["values"]) or abs(value) or 1.0
        return Figure(value, value - 2 * reach, value + 2 * reach, note)
    return Figure(value, float(told["low"]), float(told["high"]), note)


def _short(value: float) -> str:
    """Three figures that mean something; nothing, where there is only rounding."""
    if abs(value) < 1e-9:
        return "0"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
