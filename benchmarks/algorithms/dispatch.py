"""The function behind each kind of job; to import it is to import all that jobs need."""

from __future__ import annotations

from typing import Any

from benchmarks.algorithms.flight.training import train_to_fly
from benchmarks.algorithms.known_optimum.gradients import measure_gradient
from benchmarks.algorithms.known_optimum.training import train
from benchmarks.algorithms.text.models import make_model
from benchmarks.algorithms.text.training import train_on_text

FUNCTIONS = {
    "train": train,
    "gradient": measure_gradient,
    "tune": train,
    "text": train_on_text,
    "text-tune": train_on_text,
    "model": make_model,
    "flight": train_to_fly,
}


def dispatch(job: dict[str, Any]) -> dict[str, Any]:
    """Does a job."""
    return FUNCTIONS[job["kind"]](job)
