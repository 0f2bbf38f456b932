"""Options: those that several commands have, and those made from a dataclass of settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from llm_gym.cli.panels import panel_of
from llm_gym.files.settings import Option, options_of

Output = Annotated[Path, typer.Option(help="Directory for everything that is written.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="Where the model runs: cpu, cuda or auto.")]

Command = Callable[..., None]


def with_options_of(config: type) -> Callable[[Command], Command]:
    """Gives a command one option for each field of a dataclass.

    The command's own parameters come first; the options arrive in its `**values`.

    Args:
        config: A dataclass whose fields are made by `llm_gym.files.settings.setting`.

    Returns:
        A decorator, to be applied below `@app.command()`.
    """
    options = [_parameter(option) for option in options_of(config)]

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        parameters = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        parameters += options
        # typer reads a command's signature and annotations, whatever its code says.
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def _parameter(option: Option) -> inspect.Parameter:
    sentence = option.help[0].upper() + option.help[1:] + "."
    panel = panel_of(option.name)
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=option.default,
        annotation=Annotated[option.kind, typer.Option(help=sentence, rich_help_panel=panel)],
    )
