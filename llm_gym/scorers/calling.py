"""How to call a scorer that a user wrote: one look at its signature decides."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from llm_gym.scorers.texts import for_trl, token_ids_of
from llm_gym.scorers.trainer import COMPLETION_IDS, TRAINER_KEYWORDS, current_keywords

RESERVED = ("prompts", "completions")
_TRL_NAMES = frozenset({"completions", COMPLETION_IDS, *TRAINER_KEYWORDS})


class ScorerSignatureError(ValueError):
    """A scorer and the prompts' columns do not fit: one that it needs is missing, for instance.

    Not a `ScorerError`: it is a mistake in the set-up, which `on_scorer_error="penalise"` must not
    hide.
    """


@dataclass(frozen=True)
class CallPlan:
    """A way to call one scorer.

    Attributes:
        scorer: Name of the scorer, for messages.
        positional: Names of the two parameters that take prompts and completions by position; ()
            where both go by keyword.
        accepted: Names that may be passed by keyword, `prompts` and `completions` included.
        required: Those among them that have no default.
        accepts_any: True if the callable has `**kwargs`.
        only_columns: True if those get the prompts' columns and nothing that TRL passes beside
            them: they are called `**columns`. In a call by position they never do.
    """

    scorer: str
    positional: tuple[str, ...]
    accepted: frozenset[str]
    required: frozenset[str]
    accepts_any: bool
    only_columns: bool

    def __call__(
        self,
        function: Callable[..., Any],
        prompts: list[str],
        completions: list[str],
        columns: Mapping[str, Sequence[Any]],
    ) -> Any:
        """Calls `function`, waiting for its answer if it is a coroutine.

        Args:
            function: The scorer that the plan was made for.
            prompts: B prompts.
            completions: B completions.
            columns: Columns of the prompts; those not accepted are left out.

        Returns:
            What the function returned.

        Raises:
            ScorerSignatureError: A required parameter has no column.
        """
        beside = dict(current_keywords())
        if (token_ids := token_ids_of(completions)) is not None:
            beside[COMPLETION_IDS] = token_ids
        offered: dict[str, Any] = {**beside, **columns}
        clash = [name for name in self.positional if name in columns]
        if clash and not self.accepts_any:
            raise ScorerSignatureError(
                f"scorer {self.scorer!r}: the parameter {clash[0]!r} would take the "
                f"{RESERVED[self.positional.index(clash[0])]} by position, but the prompts have a "
                f"column of that name; call the first two parameters 'prompts' and 'completions'"
            )
        by_position = bool(self.positional) and not clash
        if by_position:
            prompts, completions = list(map(str, prompts)), list(map(str, completions))
        else:
            offered["prompts"], offered["completions"] = for_trl(prompts, completions)
        taken = set(self.positional) if by_position else set()
        missing = self.required - taken - offered.keys()
        offered.update({name: TRAINER_KEYWORDS[name] for name in missing & TRAINER_KEYWORDS.keys()})
        self._check_nothing_is_missing(sorted(missing - TRAINER_KEYWORDS.keys()), columns)
        names = set(self.accepted)
        if self.accepts_any:
            names |= {*columns, *RESERVED}
        if self.accepts_any and not (self.only_columns or by_position):
            names |= beside.keys()
        keywords = {name: offered[name] for name in offered if name in names - taken}
        arguments = (prompts, completions) if by_position else ()
        answer = function(*arguments, **keywords)
        return _wait_for(answer) if inspect.iscoroutine(answer) else answer

    def _check_nothing_is_missing(
        self, missing: Sequence[str], columns: Mapping[str, Sequence[Any]]
    ) -> None:
        if COMPLETION_IDS in missing:
            raise ScorerSignatureError(
                f"scorer {self.scorer!r} requires {COMPLETION_IDS!r}, the token ids of the "
                "completions, which this call does not pass; environments do, and so does "
                f"scorer(prompts, completions, {COMPLETION_IDS}=[[...], ...])"
            )
        if missing:
            raise ScorerSignatureError(
                f"scorer {self.scorer!r} requires {missing[0]!r}, which is not a column of the "
                f"prompts (columns: {sorted(columns) or 'none'}); add the column to each prompt "
                "row, or give the parameter a default"
            )


def inspect_callable(function: Callable[..., Any], name: str) -> CallPlan:
    """Finds out how to call a scorer.

    By keyword, and with messages for what came as messages, if it names a parameter `completions`
    (as TRL's reward functions do), if another of TRL's (`completion_ids`, `trainer_state`, ...)
    stands where a completion would, or if it can only take completions through `**kwargs`. By
    position, and with texts, otherwise.

    Args:
        function: The scorer.
        name: Its name, for messages.

    Returns:
        The plan, which is then called for each batch.

    Raises:
        TypeError: No parameter can take the completions.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # builtins and C extensions without a signature
        return CallPlan(name, RESERVED, frozenset(), frozenset(), False, only_columns=True)
    by_keyword = [
        p for p in parameters if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    ]
    positional = [
        p
        for p in parameters
        if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    takes_any_position = any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
    unnamed = [p.name for p in parameters if p.kind is Parameter.VAR_KEYWORD]
    accepts_any = bool(unnamed)
    starts_positional = bool(positional) and positional[0].kind is Parameter.POSITIONAL_ONLY
    names = {p.name for p in by_keyword}
    # `f(p, c, completion_ids)` is called by position, `f(completion_ids, answer)` is not.
    telling = {p.name for p in positional[:2]} if len(positional) >= 2 else names
    completions_by_name = "completions" in names or bool(telling & names & _TRL_NAMES)

    first_two: tuple[str, ...] = ()
    if starts_positional or not completions_by_name:
        if len(positional) >= 2 or takes_any_position:
            first_two = tuple(p.name for p in positional[:2])
            first_two += RESERVED[len(first_two) :]
        elif starts_positional or not accepts_any:
            raise TypeError(
                f"scorer {name!r} has the signature {inspect.signature(function)}, which cannot "
                "take the completions; define it as f(prompts, completions) or f(completions)"
            )
    return CallPlan(
        scorer=name,
        positional=first_two,
        accepted=frozenset(p.name for p in by_keyword),
        required=frozenset(p.name for p in by_keyword if p.default is Parameter.empty),
        accepts_any=accepts_any,
        only_columns=unnamed == ["columns"],
    )


def _wait_for(coroutine: Any) -> Any:
    """Runs a coroutine to its end on a thread of its own: this one may have an event loop."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, coroutine).result()
