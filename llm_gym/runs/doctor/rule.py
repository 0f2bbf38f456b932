"""A rule: what it needs, and the pure function that judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llm_gym.runs.doctor.finding import Figure, Finding
from llm_gym.runs.doctor.record import Curve, RunRecord

Judge = Callable[[RunRecord], Finding | None]

FEWEST = 5
"""Iterations below which a figure that varies is no evidence."""


@dataclass(frozen=True)
class Rule:
    """One thing that may be wrong.

    Attributes:
        id: Name of its finding.
        judge: A function of nothing but the record.
        needs: Figures that it cannot do without; of "a|b" one of them. "settings:NAME" is a
            setting, "samples" are texts.
        after: Findings that it would only repeat: where one of them was made, it is not asked.
        at_least: Iterations that it needs.
    """

    id: str
    judge: Judge
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    at_least: int = FEWEST

    def missing(self, run: RunRecord) -> str | None:
        """Why it cannot be asked of a run; None if it can."""
        absent = [need for need in self.needs if not _is_there(run, need)]
        if absent:
            return f"the run has no {' and no '.join(need.replace('|', ' or ') for need in absent)}"
        if run.iterations < self.at_least:
            return f"{run.iterations} iterations are too few, {self.at_least} are needed"
        return None


def _is_there(run: RunRecord, need: str) -> bool:
    if need == "samples":
        return bool(run.samples)
    if need.startswith("settings:"):
        return run.settings.get(need.removeprefix("settings:")) is not None
    return any(run.has(name) for name in need.split("|"))


def shown(name: str, curve: Curve, value: float | None = None) -> Figure:
    """A curve as evidence: its median, or another value of it."""
    if not len(curve):
        return Figure(name, "was not logged")
    return Figure(name, curve.median if value is None else value, curve.span)
