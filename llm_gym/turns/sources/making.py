"""What the sources share: how a library is imported, and what is said where it makes no world."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from llm_gym.turns.sources.global_random import OwnRandom
from llm_gym.turns.worlds import WorldError, said_by


def library(module: str, world: str, extra: str) -> Any:
    """Imports a module of an optional library.

    Args:
        module: Its name.
        world: What needs it, for the message.
        extra: The extra of llm_gym that brings it.

    Raises:
        ImportError: The library, or something it needs, is missing.
    """
    try:
        with OwnRandom().lent():  # some draw from the global generators while they are imported
            return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"world={world!r} needs {extra}: pip install 'llm-gym[{extra}]' ({error})"
        ) from error


def check_name(world: str, name: str, known: Collection[str]) -> None:
    """Raises `ValueError` unless a library knows a world by that name."""
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(known)[:5])} ..."
    raise ValueError(f"world={world!r} is none of the library's {len(known)} worlds: {hint}")


def check_runs_answers(world: str, *, runs: bool, run_answers: bool, instead: str = "") -> None:
    """Raises `ValueError` for a world that runs what the agent writes, unless that was allowed."""
    if runs and not run_answers:
        raise ValueError(
            f"world={world!r} runs what the agent writes, or may, as code on this machine: pass "
            f"world_kwargs={{'run_answers': True}} if that is acceptable{instead}"
        )


@contextmanager
def made(world: str) -> Iterator[None]:
    """Turns what a library raises while it makes a world into a `WorldError` of one sentence."""
    try:
        yield
    except Exception as error:
        raise not_made(world, error) from error


def not_made(world: str, error: Exception) -> WorldError:
    """What is said where a library raised an exception instead of making a world."""
    return WorldError(
        f"world={world!r} could not be made ({said_by(error)}): it may need arguments "
        "(world_kwargs=), or data that its library downloads"
    )
