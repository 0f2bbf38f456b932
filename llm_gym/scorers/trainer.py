"""What a trainer passes to reward functions beside the columns, as TRL names it.

`trainer_state`, `log_extra` and `log_metric` concern a whole call, not its rows, so they travel
beside the columns: whoever starts the call says them once, and every function in it that names them
gets them, however deep it lies in a composition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_current: ContextVar[Mapping[str, Any]] = ContextVar("llm_gym_trainer_keywords")


COMPLETION_IDS = "completion_ids"


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    """Takes what a function logs where nobody keeps it."""


TRAINER_KEYWORDS: Mapping[str, Any] = {
    "trainer_state": None,
    "log_extra": _log_nothing,
    "log_metric": _log_nothing,
}
"""Name -> what a function that requires it gets where nobody has passed it."""


@dataclass(frozen=True)
class EnvironmentState:
    """The `trainer_state` that an environment passes to TRL's reward functions.

    Attributes:
        global_step: Tokens that all rows of the environment have written so far.
    """

    global_step: int


def split_keywords(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tells columns from what a trainer passes beside them.

    Args:
        keywords: Keywords of a call.

    Returns:
        The columns, and the rest: `TRAINER_KEYWORDS` and whatever is a callable.
    """
    beside = {
        name: value
        for name, value in keywords.items()
        if name in TRAINER_KEYWORDS or callable(value)
    }
    return {name: value for name, value in keywords.items() if name not in beside}, beside


@contextmanager
def trainer_keywords(keywords: Mapping[str, Any]) -> Iterator[None]:
    """Passes keywords to every function that is called inside, and names them."""
    token = _current.set(keywords)
    try:
        yield
    finally:
        _current.reset(token)


def current_keywords() -> Mapping[str, Any]:
    """What has been passed to the call that is going on; empty outside of one."""
    return _current.get({})
