"""How to call a scorer that a user wrote: one look at its signature decides."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

RESERVED = ("prompts", "completions")


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
    """

    scorer: str
    positional: tuple[str, ...]
    accepted: frozenset[str]
    required: frozenset[str]
    accepts_any: bool

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
        offered: dict[str, Any] = dict(columns)
        clash = [name for name in self.positional if name in columns]
        if clash and not self.accepts_any:
            raise ScorerSignatureError(
                f"scorer {self.scorer!r}: the parameter {clash[0]!r} would take the "
                f"{RESERVED[self.positional.index(clash[0])]} by position, but the prompts have a "
                f"column of that name; call the first two parameters 'prompts' and 'completions'"
            )
        by_position = bool(self.positional) and not clash
        if not by_position:
            offered.update(prompts=prompts, completions=completions)
        taken = set(self.positional) if by_position else set()
        missing = sorted(self.required - taken - offered.keys())
        if missing:
            raise ScorerSignatureError(
                f"scorer {self.scorer!r} requires {missing[0]!r}, which is not a column of the "
                f"prompts (columns: {sorted(columns) or 'none'}); add the column to each prompt "
                "row, or give the parameter a default"
            )
        keywords = {
            name: value
            for name, value in offered.items()
            if name not in taken and (self.accepts_any or name in self.accepted)
        }
        arguments = (prompts, completions) if by_position else ()
        answer = function(*arguments, **keywords)
        return _wait_for(answer) if inspect.iscoroutine(answer) else answer


def inspect_callable(function: Callable[..., Any], name: str) -> CallPlan:
    """Finds out how to call a scorer.

    By keyword if it names a parameter `completions` (as TRL's reward functions do) or can only take
    it through `**kwargs`; by position otherwise.

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
        return CallPlan(name, RESERVED, frozenset(), frozenset(), accepts_any=False)
    by_keyword = [
        p for p in parameters if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    ]
    positional = [
        p
        for p in parameters
        if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    takes_any_position = any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
    accepts_any = any(p.kind is Parameter.VAR_KEYWORD for p in parameters)
    starts_positional = bool(positional) and positional[0].kind is Parameter.POSITIONAL_ONLY
    completions_by_name = any(p.name == "completions" for p in by_keyword)

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
    )


def _wait_for(coroutine: Any) -> Any:
    """Runs a coroutine to its end on a thread of its own: this one may have an event loop."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, coroutine).result()
