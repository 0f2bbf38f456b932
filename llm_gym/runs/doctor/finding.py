"""What the doctor found: in words, with the figures that show it, and what mends it."""

from __future__ import annotations

from typing import Any, NamedTuple

PAGE = "docs/doctor.md"


class Figure(NamedTuple):
    """A figure that a finding rests on.

    Attributes:
        name: As it is logged, or in words where it is made of several.
        value: What it is.
        steps: First and last step (tokens generated) that it is of; None where it is of a setting.
    """

    name: str
    value: float | str
    steps: tuple[int, int] | None = None

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:.4g}"
        if self.steps is None:
            return f"{self.name} {value}"
        first, last = self.steps
        when = f"at step {first:,}" if first == last else f"steps {first:,} to {last:,}"
        return f"{self.name} {value} ({when})"


class Finding(NamedTuple):
    """One thing that is wrong with a run.

    Attributes:
        id: Its name, which is that of its part of the page.
        what: What is wrong, a sentence.
        evidence: The figures that show it.
        mend: What to do, a sentence.
        severity: "error" where what is learnt is not what was asked for, or nothing is; "warning"
            where the run learns, and will not end well; "note" where it learns nevertheless, and
            nothing has to be done.
    """

    id: str
    what: str
    evidence: tuple[Figure, ...]
    mend: str
    severity: str

    @property
    def is_wrong(self) -> bool:
        """Whether it has to be mended; a note need not be."""
        return self.severity != "note"

    @property
    def page(self) -> str:
        """Where more is said of it."""
        return f"{PAGE}#{self.id}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        evidence = [figure._asdict() for figure in self.evidence]
        return {**self._asdict(), "evidence": evidence, "page": self.page}


class Diagnosis(NamedTuple):
    """What was found of a run, and what could not be judged.

    Attributes:
        findings: Causes before what follows from them; none of a healthy run.
        not_judged: Why a finding was not looked for, by its name.
        iterations: Rollouts that have been read.
    """

    findings: list[Finding]
    not_judged: dict[str, str]
    iterations: int
