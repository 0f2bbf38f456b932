"""People compare answers: a page, a terminal, and a scorer that asks a person.

llm-gym label STORE
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_gym._submodules import submodule_getter

if TYPE_CHECKING:
    from llm_gym.feedback.labelling.human_scorer import HumanScorer
    from llm_gym.feedback.labelling.questions import Desk, Question, Reply, Summary
    from llm_gym.feedback.labelling.server import create_app
    from llm_gym.feedback.labelling.store_desk import StoreDesk

_HOMES = {
    "Desk": "questions",
    "HumanScorer": "human_scorer",
    "Question": "questions",
    "Reply": "questions",
    "StoreDesk": "store_desk",
    "Summary": "questions",
    "create_app": "server",
}

__all__ = [
    "Desk",
    "HumanScorer",
    "Question",
    "Reply",
    "StoreDesk",
    "Summary",
    "create_app",
]
_submodule = submodule_getter(__name__)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"llm_gym.feedback.labelling.{_HOMES[name]}"), name)
    return _submodule(name)
