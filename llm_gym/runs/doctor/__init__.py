"""A doctor of training runs: what is wrong, in words, with the evidence and the mend.

    for finding in llm_gym.diagnose("runs/polite"):
        print(finding.id, finding.what, finding.mend)

Rules are pure functions of what a run has written (`RunRecord`). They were made with one half of
the planted faults and healthy runs of `benchmarks/doctor`, and judged on the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.runs.doctor.diagnosis import RULES, diagnose, examine
from llm_gym.runs.doctor.finding import Diagnosis, Figure, Finding
from llm_gym.runs.doctor.record import RunRecord, read_run

__all__ = [
    "RULES",
    "Diagnosis",
    "Figure",
    "Finding",
    "RunRecord",
    "diagnose",
    "examine",
    "read_run",
]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
