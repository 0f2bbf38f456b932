"""A scorer with a time limit that ends it, whatever it is doing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from llm_gym.files.ranges import check_numbers
from llm_gym.scorers.checking import finite_number
from llm_gym.scorers.protocol import Columns, Scorer, ScorerError, Scores, or_none
from llm_gym.scorers.trainer import current_keywords, trainer_keywords
from llm_gym.scorers.worker import TimeLimitError, Worker, WorkerDiedError


class TimeLimitScorer(Scorer):
    """Calls a scorer in a process of its own, which is killed at the time limit.

    The limit is for a batch; the rows of a batch that takes longer are scored one by one, each
    with the limit for itself, so that those at fault are known. A batch of B rows thus ends within
    B + 1 limits.

    The process starts with the first call, is kept, and is started again after it was killed: what
    the scorer remembers between calls stays there. Starting does not count.

    Args:
        scorer: The scorer. It is sent to the process once; functions of a notebook or a script,
            lambdas and closures will do.
        time_limit: Seconds, above 0.
        on_timeout: What a row that takes longer gets: "raise" a `ScorerError` that names it, or a
            number as its score. With a number the part "timed_out" says (1 or 0) which rows it
            concerns.

    Raises:
        TypeError: The scorer cannot be sent to another process, or an option is no number.
        ValueError: An option is out of range.
        OSError: The system cannot fork (Windows).
    """

    def __init__(
        self,
        scorer: Scorer,
        time_limit: float,
        *,
        on_timeout: Literal["raise"] | float = "raise",
    ) -> None:
        self.name = scorer.name
        self.time_limit = finite_number("time_limit", time_limit)
        check_numbers(time_limit=self.time_limit)
        if isinstance(on_timeout, str) and on_timeout != "raise":
            raise ValueError(f"on_timeout must be 'raise' or a number, got {on_timeout!r}")
        self.fallback = (
            None if isinstance(on_timeout, str) else finite_number("on_timeout", on_timeout)
        )
        self.scorer = scorer
        self._warned = False
        try:
            self._worker = Worker(_Job(scorer))
        except TypeError as error:
            raise TypeError(
                f"scorer {self.name!r} {error}; a time limit needs that: leave it out, or make the "
                "scorer without what cannot be pickled"
            ) from error

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        """Scores in the other process. See `Scorer.compute`."""
        try:
            scores = self._call(prompts, completions, columns)
        except (TimeLimitError, WorkerDiedError) as error:
            return self._one_by_one(prompts, completions, columns, error)
        return self._result(scores.values, scores.parts, np.zeros(len(prompts)))

    def _call(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        state = current_keywords().get("trainer_state")
        job = (prompts, completions, dict(columns), state)
        return self._worker.call(*job, time_limit=self.time_limit)

    def _one_by_one(
        self, prompts: list[str], completions: list[str], columns: Columns, error: Exception
    ) -> Scores:
        """Scores each row by itself, after a batch that failed as `error` says."""
        rows: list[Scores | None] = []
        for row in range(len(prompts)):
            only = slice(row, row + 1)
            cut = {name: list(column[only]) for name, column in columns.items()}
            try:
                if len(prompts) == 1:  # that one has been tried
                    raise error
                rows.append(self._call(prompts[only], completions[only], cut))
            except TimeLimitError as problem:
                if self.fallback is None:
                    raise self._timed_out(prompts, completions, row) from problem
                rows.append(None)
            except WorkerDiedError as problem:
                raise self.error(str(problem), prompts, completions, row) from problem
        if None not in rows and not self._warned:
            self._warned = True
            warnings.warn(
                f"scorer {self.name!r} took longer than its time limit of {self.time_limit:g} s "
                f"for a batch of {len(prompts)}, though for none of its rows; they were scored one "
                "by one, which is slow: a higher time_limit avoids that",
                stacklevel=2,
            )
        names = dict.fromkeys(name for scores in rows if scores for name in scores.parts)
        return self._result(
            np.array([self.fallback if scores is None else scores.values[0] for scores in rows]),
            {
                name: np.array(
                    [
                        np.nan if scores is None else scores.parts.get(name, [np.nan])[0]
                        for scores in rows
                    ]
                )
                for name in names
            },
            np.array([float(scores is None) for scores in rows]),
        )

    def _timed_out(self, prompts: list[str], completions: list[str], row: int) -> ScorerError:
        problem = f"took longer than its time limit of {self.time_limit:g} s and was stopped"
        return self.error(problem, prompts, completions, row)

    def _result(
        self, values: np.ndarray, parts: Mapping[str, np.ndarray], timed_out: np.ndarray
    ) -> Scores:
        all_parts: dict[str, Any] = {name: or_none(part) for name, part in parts.items()}
        if self.fallback is not None:
            all_parts["timed_out"] = timed_out
        return Scores(or_none(values), all_parts)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"TimeLimitScorer({self.scorer!r}, {self.time_limit!r})"


class _Job:
    """What the other process is sent: a scorer, to be called with rows and `trainer_state`."""

    def __init__(self, scorer: Scorer) -> None:
        self._score: Callable[..., Scores] = scorer.score

    def __call__(
        self, prompts: list[str], completions: list[str], columns: Columns, state: Any
    ) -> Scores:
        with trainer_keywords({"trainer_state": state}):
            return self._score(prompts, completions, columns, allow_none=True)
