"""What a scorer is, and the one place where its answers are checked.

A scorer is any callable `scorer(prompts, completions, /, **columns)` that returns one real number
per completion. TRL's reward functions, which are called by keyword, work unchanged.
`as_scorer` turns such a callable, or the name of a scorer, into a `Scorer`, which is what the
environments use.
"""

from __future__ import annotations

import copy
import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from llm_gym.scorers.calling import ScorerSignatureError, inspect_callable
from llm_gym.scorers.checking import as_real_vector, sums_of_tokens
from llm_gym.scorers.texts import (
    Messages,
    completion_text,
    prompt_text,
    token_ids_of,
    with_token_ids,
)
from llm_gym.scorers.trainer import COMPLETION_IDS, split_keywords, trainer_keywords

Columns = Mapping[str, Sequence[Any]]


class Scores(NamedTuple):
    """The scores of one batch.

    Attributes:
        values: float64 `(B,)`, one score per completion; NaN for one that the scorer leaves to
            others, which only `Scorer.score(..., allow_none=True)` returns.
        parts: Named components, each float64 `(B,)`; `{}` where the scorer has none. NaN where a
            part says nothing of a completion.
    """

    values: np.ndarray
    parts: Mapping[str, np.ndarray]


class ScorerError(ValueError):
    """A scorer raised, or returned something that is not one finite real number per completion.

    Attributes:
        scorer: Name of the scorer.
        prompt: The prompt in question, in full (the first of the batch where none can be singled
            out).
        completion: The completion that goes with it, in full.
    """

    def __init__(
        self, message: str, *, scorer: str = "", prompt: str = "", completion: str = ""
    ) -> None:
        super().__init__(message)
        self.scorer = scorer
        self.prompt = prompt
        self.completion = completion


class Scorer(ABC):
    """Base class of all scorers: checks the answers, and is itself a TRL reward function.

    A subclass sets `name` and implements `compute`. Everything that goes in and comes out passes
    through `score`, so a subclass need not check anything.

    Attributes:
        name: In messages and of parts.
        highest: The best score that there is, for people to read the others by; None where there is
            none.
        factors: Names of parts that the others are multiplied by.
    """

    name: str = "scorer"
    highest: float | None = None
    factors: tuple[str, ...] = ()

    @abstractmethod
    def compute(
        self, prompts: list[str], completions: list[str], columns: Columns
    ) -> Scores | Sequence[float | None] | np.ndarray:
        """Score a batch of at least one completion.

        Args:
            prompts: B prompts, as text; `SourcedText` where they came as messages.
            completions: B completions, one per prompt, as text; `SourcedText` where their messages
                or token ids are known.
            columns: Further columns of the prompts, each of length B.

        Returns:
            B numbers, or `Scores` where the score has named parts. None in place of a number means
            "not my task"; a list in place of it has one number a token of the completion, and its
            sum is the score.
        """

    def score(
        self,
        prompts: Sequence[str | Messages],
        completions: Sequence[str | Messages],
        columns: Columns | None = None,
        *,
        allow_none: bool = False,
    ) -> Scores:
        """Score a batch and check the answer.

        Args:
            prompts: B prompts, as text or messages.
            completions: B completions, one per prompt, as text or messages.
            columns: Further columns of the prompts, each of length B.
            allow_none: Leave rows without a score (NaN) that the scorer returned None for, because
                the caller has others that score them.

        Returns:
            Checked scores: values and parts are finite float64 arrays of shape `(B,)`, parts NaN
            where they say nothing of a row. An empty batch gives empty scores without calling the
            scorer.

        Raises:
            TypeError: A prompt or completion is neither text nor messages.
            ValueError: Prompts and completions differ in number, or a column has a reserved name.
            ScorerSignatureError: The scorer needs a column that the prompts do not have.
            ScorerError: The scorer failed, or returned something that is not B finite real numbers.
        """
        if isinstance(prompts, str) or isinstance(completions, str):
            raise TypeError("prompts and completions are batches: pass lists of str, not a str")
        columns = {} if columns is None else columns
        self._check_batch(prompts, completions, columns)
        if not len(prompts):
            return Scores(np.zeros(0), {})
        prompt_texts = [prompt_text(p, f"prompts[{row}]") for row, p in enumerate(prompts)]
        completion_texts = [
            completion_text(c, f"completions[{row}]") for row, c in enumerate(completions)
        ]
        try:
            # Copies, so that a scorer that edits its arguments cannot spoil them for the next one.
            answer = self.compute(list(prompt_texts), list(completion_texts), columns)
        except (ScorerError, ScorerSignatureError):
            raise
        except Exception as error:
            raise self.error(
                f"raised {type(error).__name__}: {error}", prompt_texts, completion_texts
            ) from error
        raw, raw_parts = answer if isinstance(answer, Scores) else (answer, {})
        raw, problem, row = sums_of_tokens(raw, token_ids_of(completion_texts))
        if problem is not None:
            raise self.error(f"returned {problem}", prompt_texts, completion_texts, row)
        values = self._checked(raw, prompt_texts, completion_texts, part=None)
        if not allow_none and np.isnan(values).any():
            problem = (
                "returned None instead of a real number: None says that the row is not its task, "
                "and no other scorer judges it"
            )
            raise self.error(
                problem, prompt_texts, completion_texts, int(np.isnan(values).argmax())
            )
        if not isinstance(raw_parts, Mapping):
            problem = f"returned parts of type {type(raw_parts).__name__} instead of a dict"
            raise self.error(problem, prompt_texts, completion_texts)
        parts = {
            str(part): self._checked(part_raw, prompt_texts, completion_texts, part=str(part))
            for part, part_raw in raw_parts.items()
        }
        return Scores(values, parts)

    def error(
        self,
        problem: str,
        prompts: Sequence[str],
        completions: Sequence[str],
        row: int | None = None,
    ) -> ScorerError:
        """Builds the error for a problem with a batch or one row of it.

        Args:
            problem: What went wrong, continuing the sentence "scorer 'name' ...".
            prompts: B prompts.
            completions: B completions.
            row: The row in question; None where it may be any, and the first stands for them.

        Returns:
            The error, to be raised by the caller.
        """
        which = f"first of {len(prompts)} rows" if row is None else f"row {row} of {len(prompts)}"
        prompt, completion = prompts[row or 0], completions[row or 0]
        return ScorerError(
            f"scorer {self.name!r} {problem} "
            f"({which}: prompt {shorten(prompt)}, completion {shorten(completion)})",
            scorer=self.name,
            prompt=prompt,
            completion=completion,
        )

    def __call__(
        self,
        prompts: Sequence[str | Messages],
        completions: Sequence[str | Messages],
        **columns: Any,
    ) -> list[float | None]:
        """Score a batch by the plain protocol, which is also TRL's: one float per completion.

        Called as TRL's trainers call it (with `trainer_state`, `log_extra`, `log_metric`), it
        returns None for a completion that is not the scorer's task, as those expect.
        """
        columns, beside = split_keywords(columns)
        token_ids = columns.pop(COMPLETION_IDS, None)
        if token_ids is not None:
            if len(token_ids) != len(completions):
                raise ValueError(
                    f"scorer {self.name!r} was given {len(completions)} completions and "
                    f"{len(token_ids)} {COMPLETION_IDS}; pass the token ids of each completion"
                )
            texts = [completion_text(c, f"completions[{i}]") for i, c in enumerate(completions)]
            completions = with_token_ids(texts, token_ids)
        with trainer_keywords(beside):
            scores = self.score(prompts, completions, columns, allow_none=bool(beside))
        return or_none(scores.values)

    @property
    def __name__(self) -> str:  # TRL labels the reward with it
        return self.name

    def _check_batch(
        self, prompts: Sequence[Any], completions: Sequence[Any], columns: Columns
    ) -> None:
        if len(prompts) != len(completions):
            raise ValueError(
                f"scorer {self.name!r} was given {len(prompts)} prompts and {len(completions)} "
                "completions; pass one completion per prompt"
            )
        for reserved in ("prompts", "completions"):
            if reserved in columns:
                raise ValueError(f"a column may not be called {reserved!r}; rename the column")

    def _checked(
        self, raw: Any, prompts: Sequence[str], completions: Sequence[str], part: str | None
    ) -> np.ndarray:
        values, problem, row = as_real_vector(raw, len(prompts), allow_none=True)
        if problem is not None:
            where = "" if part is None else f" for its part {part!r}"
            raise self.error(f"returned {problem}{where}", prompts, completions, row)
        return values


class FunctionScorer(Scorer):
    """A callable as a `Scorer`; made by `as_scorer`.

    Args:
        function: Takes prompts and completions, positionally or by the names TRL uses, and any of
            the columns by name. It may be `async`.
        name: Name in messages and of the parts; None takes the callable's own.

    Raises:
        TypeError: The callable cannot be called in any of these ways.
    """

    def __init__(self, function: Callable[..., Any], *, name: str | None = None) -> None:
        self.name = _name_of(function) if name is None else name
        self.function = function
        self._call = inspect_callable(function, self.name)

    def compute(
        self, prompts: list[str], completions: list[str], columns: Columns
    ) -> Scores | Sequence[float | None] | np.ndarray:
        """Calls the function with what it accepts. See `Scorer.compute`."""
        return self._call(self.function, prompts, completions, columns)

    def __repr__(self) -> str:
        return f"FunctionScorer({self.name!r})"


def as_scorer(
    scorer: Scorer | Callable[..., Any] | str,
    *,
    name: str | None = None,
    time_limit: float | None = None,
    on_timeout: Literal["raise"] | float = "raise",
) -> Scorer:
    """Makes a checked `Scorer` of any callable, or of a name.

    The signature is inspected once, here. Accepted are

    - the plain protocol, `f(prompts, completions)` with any names, plus columns by name;
    - TRL reward functions, `f(completions, **kwargs)`, `f(prompts, completions, answer, **kwargs)`;
    - callable objects, bound methods, lambdas, `functools.partial`, `async` functions, and builtins
      without a signature (called with prompts and completions only);
    - a name: "politeness", "length:20", "package.module:function" and the other forms in
      `llm_gym.scorers.by_name.SCORER_NAMES`.

    A column that the callable does not accept is not passed.

    Args:
        scorer: The callable, the name, or a `Scorer`, which is returned as it is.
        name: Name in messages and of the parts; None takes the scorer's own. A `Scorer` given
            another name is copied (shallowly), never changed.
        time_limit: Seconds that a call may take, after which it is ended whatever it is doing: the
            scorer then runs in a process of its own (`TimeLimitScorer`). None sets no limit.
        on_timeout: What a row that takes longer gets: "raise" an error, or a number as its score.

    Returns:
        The scorer.

    Raises:
        TypeError: Not callable, a class instead of an instance, or a signature that cannot take
            completions.
        ValueError: There is no scorer of that name, or an option is out of range.
    """
    checked = _checked_scorer(scorer, name)
    if time_limit is None:
        return checked
    from llm_gym.scorers.time_limit import TimeLimitScorer

    return TimeLimitScorer(checked, time_limit, on_timeout=on_timeout)


def _checked_scorer(scorer: Scorer | Callable[..., Any] | str, name: str | None) -> Scorer:
    if isinstance(scorer, str):
        from llm_gym.scorers.by_name import scorer_from_name

        scorer = scorer_from_name(scorer)
    if isinstance(scorer, Scorer):
        if name is None or name == scorer.name:
            return scorer
        renamed = copy.copy(scorer)
        renamed.name = name
        return renamed
    if isinstance(scorer, type):
        raise TypeError(f"scorer is the class {scorer.__name__}; pass an instance of it")
    if not callable(scorer):
        raise TypeError(
            "scorer must be callable as scorer(prompts, completions), or the name of a scorer, got "
            f"{reprlib.repr(scorer)} of type {type(scorer).__name__}"
        )
    return FunctionScorer(scorer, name=name)


def or_none(values: np.ndarray) -> list[float | None]:
    """Scores as a list, with None for NaN: a row that the scorer leaves to others."""
    return [None if math.isnan(value) else value for value in values.tolist()]


def shorten(text: str, limit: int = 80) -> str:
    """Quotes a text for a message: escaped, at most `limit` characters, the middle left out."""
    shortener = reprlib.Repr()
    shortener.maxstring = limit
    return shortener.repr(text)


def _name_of(function: Callable[..., Any]) -> str:
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return getattr(function, "__name__", type(function).__name__)
