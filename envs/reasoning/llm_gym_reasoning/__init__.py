"""reasoning-gym's tasks (https://arxiv.org/abs/2505.24760) as text environments of llm_gym.

Importing the package registers `llm_gym/Reasoning-v0`, which takes any of them by name, and two
with fixed settings that a tiny model can learn: `llm_gym/ReasoningChainSum-v0` and
`llm_gym/ReasoningSpellBackward-v0`. Nothing heavy is imported until an environment is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gym.registration import register_task
from llm_gym_reasoning.small_tasks import SMALL_TASKS

if TYPE_CHECKING:
    from llm_gym_reasoning.model import make_model
    from llm_gym_reasoning.questions import Questions, draw_questions
    from llm_gym_reasoning.scorer import ReasoningScorer

__all__ = ["SMALL_TASKS", "Questions", "ReasoningScorer", "draw_questions", "make_model"]

__version__ = "0.1.0"

_MODULE_OF = {
    "Questions": "questions",
    "ReasoningScorer": "scorer",
    "draw_questions": "questions",
    "make_model": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'llm_gym_reasoning' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"llm_gym_reasoning.{_MODULE_OF[name]}"), name)


_TASK = "llm_gym_reasoning.task:environment_kwargs"
register_task("llm_gym/Reasoning-v0", _TASK, split="train")
for _task in SMALL_TASKS.values():
    register_task(_task.env_id, _TASK, split="train", **_task.environment())
