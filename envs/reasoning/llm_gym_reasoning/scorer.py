"""reasoning-gym's own verdict on an answer, as a scorer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

from llm_gym.scorers import Scorer
from llm_gym.scorers.checking import finite_number
from llm_gym.scorers.protocol import Columns, Scores
from llm_gym.scorers.worker import Worker

__all__ = ["ANSWER_FORMATS", "RUNS_ANSWERS", "AnswerFormat", "ReasoningScorer"]

AnswerFormat = Literal["completion", "last_line", "answer_tag"] | Callable[[str], str | None]

RUNS_ANSWERS = frozenset(
    {
        "binary_matrix",
        "composite",  # may hold any of the others
        "countdown",
        "intermediate_integration",
        "n_queens",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
        "spiral_matrix",
        "string_insertion",
    }
)
"""Datasets whose `score_answer` hands the answer to `eval` or to SymPy's parser, which uses it."""


def _last_line(completion: str) -> str:
    return (completion.strip().splitlines() or [""])[-1].strip()


def _answer_tag(completion: str) -> str | None:
    from reasoning_gym.utils import extract_answer

    return extract_answer(completion)


ANSWER_FORMATS: dict[str, Callable[[str], str | None]] = {
    "completion": str.strip,
    "last_line": _last_line,
    "answer_tag": _answer_tag,
}
"""The whole completion; its last line; what stands in the last `<answer> </answer>`."""


class ReasoningScorer(Scorer):
    """Calls a dataset's `score_answer(answer, entry)` for every completion.

    Args:
        dataset: A reasoning-gym dataset, as `make_dataset` returns it.
        answer_format: Where the answer stands: a key of `ANSWER_FORMATS`, or a function from the
            completion to the answer, None where there is none.
        time_limit: Seconds that the dataset may take for one answer, after which that is stopped
            whatever it is doing; it then judges in a process of its own. None sets no limit.
        name: What messages call it.

    The prompts need the column `entry`, the dataset's own record of the question. Scores are the
    dataset's, mostly from 0 to 1, often with part of the credit for part of the answer. The parts
    are `correct`, 1 for a full score, and `unreadable`, 1 where there was no answer, or one that
    made `score_answer` raise, exit or take longer than the time limit: each is worth 0, as a policy
    that writes nonsense must learn.

    Raises:
        TypeError: The time limit is no number.
        ValueError: The answer format is unknown, or the time limit is not above 0.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        answer_format: AnswerFormat = "completion",
        time_limit: float | None = None,
        name: str = "reasoning",
    ) -> None:
        if not callable(answer_format) and answer_format not in ANSWER_FORMATS:
            raise ValueError(
                f"answer_format={answer_format!r} is not one of {sorted(ANSWER_FORMATS)}, nor a "
                "function from completion to answer"
            )
        self.name = name
        self.dataset = dataset
        self.time_limit = None if time_limit is None else finite_number("time_limit", time_limit)
        if self.time_limit is not None and self.time_limit <= 0:
            raise ValueError(f"time_limit must be above 0 seconds or None, got {time_limit!r}")
        self._worker = None if self.time_limit is None else Worker(dataset.score_answer)
        self._extract = answer_format if callable(answer_format) else ANSWER_FORMATS[answer_format]

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        """See `Scorer.compute`; the column `entry` is needed."""
        entries = columns.get("entry", [None] * len(prompts))
        if any(entry is None for entry in entries):
            raise ValueError(
                'a prompt has no column "entry", without which reasoning-gym cannot judge: take '
                "prompts from draw_questions"
            )
        verdicts = [self._verdict(*pair) for pair in zip(completions, entries, strict=True)]
        values = np.array([0.0 if verdict is None else verdict for verdict in verdicts])  # (B,)
        unreadable = np.array([float(verdict is None) for verdict in verdicts])  # (B,)
        return Scores(values, {"correct": (values >= 1.0) * 1.0, "unreadable": unreadable})

    def _verdict(self, completion: str, entry: Any) -> float | None:
        answer = self._extract(completion)
        if answer is None:
            return None
        if self._worker is None or self.time_limit is None:
            judge = self.dataset.score_answer
        else:
            self._worker.start()  # a failure to start is no fault of the answer
            judge = partial(self._worker.call, time_limit=self.time_limit)
        try:
            return float(judge(answer, entry))
        except Exception:  # a parser of answers met one that is none, or that does not end
            return None
