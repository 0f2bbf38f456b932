"""People compare answers: a page, a terminal, and a scorer that asks a person.

llm-gym label STORE
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_gym.labelling.comparisons import read_comparisons, sample_comparisons
    from llm_gym.labelling.human_scorer import HumanScorer
    from llm_gym.labelling.questions import Desk, Question, Reply, Summary
    from llm_gym.labelling.server import create_app
    from llm_gym.labelling.store_desk import StoreDesk

_HOMES = {
    "Desk": "questions",
    "HumanScorer": "human_scorer",
    "Question": "questions",
    "Reply": "questions",
    "StoreDesk": "store_desk",
    "Summary": "questions",
    "create_app": "server",
    "read_comparisons": "comparisons",
    "sample_comparisons": "comparisons",
}

__all__ = [
    "Desk",
    "HumanScorer",
    "Question",
    "Reply",
    "StoreDesk",
    "Summary",
    "create_app",
    "read_comparisons",
    "sample_comparisons",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"llm_gym.labelling.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
