"""A task of reasoning-gym as a world of turns: one question, one answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_gym.turns.sources.global_random import OwnRandom
from llm_gym_reasoning.questions import CHUNK, Split, make_dataset, question_at, split_of
from llm_gym_reasoning.scorer import AnswerFormat
from llm_gym_reasoning.task import check_task, judge_of

__all__ = ["ReasoningWorld"]


class ReasoningWorld:
    """Asks a question, and pays for the answer what its dataset's verifier does.

    `world="reasoning_gym:gcd"` in `llm_gym/Turns-v0`: the questions of `llm_gym/Reasoning-v0`,
    made one at a time as they are asked.

    Args:
        name: Of the dataset.
        settings: See `environment_kwargs`, as all others are.
        split: `"train"` or `"test"`.
        seed: Seed of the questions; each has some 800 for training and 200 for testing.
        answer_format: Where the answer stands.
        run_answers: Allow tasks whose scorers evaluate what the model wrote.
        time_limit: Seconds that such a scorer may take.

    Raises:
        ImportError: Reasoning-gym is not installed.
        ValueError: There is no such dataset, setting or split, or the task runs answers.
    """

    def __init__(
        self,
        name: str,
        *,
        settings: Mapping[str, Any] | None = None,
        split: Split = "train",
        seed: int = 0,
        answer_format: AnswerFormat = "completion",
        run_answers: bool = False,
        time_limit: float | None = 5.0,
    ) -> None:
        check_task(name, split, run_answers=run_answers)
        self._name, self._split, self._random = name, split, OwnRandom()
        with self._random.lent():
            self._dataset = make_dataset(name, settings, seed)
        self._scorer = judge_of(self._dataset, name, answer_format, time_limit)

    def reset(self, *, seed: int) -> str:
        """The first question of the split from the one that the seed chooses."""
        with self._random.lent():
            for index in range(seed, seed + CHUNK):
                self._entry = question_at(self._dataset, index % CHUNK)
                if split_of(self._entry["question"]) == self._split:
                    return self._entry["question"]
        raise ValueError(f"reasoning_gym:{self._name} has no question for split={self._split!r}")

    def step(self, text: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Judges the answer, and ends."""
        with self._random.lent():
            scores = self._scorer.compute(
                [self._entry["question"]], [text], {"entry": [self._entry]}
            )
        parts = {name: float(values[0]) for name, values in scores.parts.items()}
        return "", float(scores.values[0]), True, False, parts
