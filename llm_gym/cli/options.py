"""Command-line options made from a settings dataclass, so that they cannot differ from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from llm_gym.stages.settings import field_help

__all__ = ["with_options_of"]

Command = Callable[..., None]


def with_options_of(settings: type) -> Callable[[Command], Command]:
    """Gives a command one option for each field of a dataclass.

    The command's own parameters come first; the options arrive in its `**values`.

    Args:
        settings: A dataclass with a default and a description for each field.

    Returns:
        A decorator, to be applied below `@app.command()`.
    """
    descriptions = field_help(settings)
    types = get_type_hints(settings)

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        parameters = [
            one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=_option(types[field.name], descriptions[field.name]),
            )
            for field in fields(settings)
        ]
        # typer reads a command's signature and annotations, whatever its code says.
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return decorate


def _option(kind: Any, description: str) -> Any:
    return Annotated[kind, typer.Option(help=description[0].upper() + description[1:] + ".")]
