"""Tasks of reasoning-gym with settings that a model of 0.1 million parameters can learn."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

__all__ = ["SMALL_TASKS", "SmallTask", "small_task"]


@dataclass(frozen=True)
class SmallTask:
    """A task with everything fixed.

    Attributes:
        env_id: Under which it is registered.
        task: Name of reasoning-gym's dataset.
        settings: Settings of the dataset.
        size: Questions of the training split.
        test_size: Questions of the test split.
        max_new_tokens: Characters of the longest answer, and its end.
        epochs: Passes over the training questions after which `make_model` stops.
    """

    env_id: str
    task: str
    settings: dict[str, Any]
    size: int
    test_size: int
    max_new_tokens: int
    epochs: int

    def environment(self) -> dict[str, Any]:
        """The task as arguments of `llm_gym/Reasoning-v0`."""
        return {
            "task": self.task,
            "settings": dict(self.settings),
            "size": self.size,
            "test_size": self.test_size,
            "max_new_tokens": self.max_new_tokens,
        }


SMALL_TASKS: dict[str, SmallTask] = {
    task.task: task
    for task in (
        SmallTask(
            env_id="llm_gym/ReasoningChainSum-v0",
            task="chain_sum",
            settings={"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 1},
            size=2048,
            test_size=256,
            max_new_tokens=4,
            epochs=40,
        ),
        SmallTask(
            env_id="llm_gym/ReasoningSpellBackward-v0",
            task="spell_backward",
            settings={"min_word_len": 4, "max_word_len": 4},
            size=2048,
            test_size=256,
            max_new_tokens=5,
            epochs=3,
        ),
    )
}
"""By the name of the dataset."""


def small_task(task: str) -> SmallTask:
    """Looks a small task up.

    Args:
        task: Key of `SMALL_TASKS`.

    Returns:
        The task.

    Raises:
        ValueError: There is no such task.
    """
    if task not in SMALL_TASKS:
        near = difflib.get_close_matches(task, list(SMALL_TASKS), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"task={task!r} is no small task; {hint}there are {sorted(SMALL_TASKS)}")
    return SMALL_TASKS[task]
