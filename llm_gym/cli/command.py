"""What every command of the program has in common: `--config FILE`, and a help of whole names."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from llm_gym.cli.processes import check_started
from llm_gym.files.ranges import RANGES, check_device

Function = Callable[..., None]


class Command(TyperCommand):
    """A command whose help names a switch once.

    The opposite, `--no-NAME`, is understood (it undoes what a file of settings says), but a column
    of its own in every help would leave no room for the other names.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As the parent's, without the opposites of switches that are off by default."""
        shown = copy.copy(self)
        shown.params = [_without_negative(parameter) for parameter in self.params]
        super(Command, shown).format_help(ctx, formatter)


def _without_negative(parameter: Any) -> Any:
    if not parameter.secondary_opts or parameter.default:
        return parameter
    shown = copy.copy(parameter)
    shown.secondary_opts = []
    if parameter.default is None:  # neither is the default, so people may want to say either
        shown.help = f"{parameter.help} Or {', '.join(parameter.secondary_opts)}."
    return shown


def _config_option(kinds: dict[str, type]) -> inspect.Parameter:
    def read(context: typer.Context, path: Path | None) -> Path | None:
        from llm_gym.cli.config_file import read_config

        if path is not None:
            context.default_map = read_config(path, context.command, kinds)
        return path

    help_ = "YAML or JSON file of these options; the command line wins over it."
    option = typer.Option("--config", help=help_, is_eager=True, callback=read)
    return inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Path | None, option],
    )


def kind_of(annotation: Any) -> type:
    """The type of one value of a parameter: int for `Annotated[list[int] | None, ...]`."""
    for part in getattr(annotation, "__args__", ()):
        return kind_of(part)
    return annotation if isinstance(annotation, type) else str


def _check_ranges(values: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Numbers and devices, before anything is loaded; those of settings are checked there, too."""
    for name, value in values.items():
        if name == "device":
            check_device(name, value)
        elif value is not None and name in RANGES and kinds[name] in (int, float):
            for each in value if isinstance(value, (list, tuple)) else [value]:
                RANGES[name].check(name, each)


def configurable(function: Function) -> Function:
    """Gives a command the option `--config`.

    What the file says takes the place of defaults, so that the command itself sees no difference.
    Numbers are held against the ranges of their names.

    Args:
        function: The function of a command, with typer's annotations.

    Returns:
        One with the further option, to be given to `@app.command(cls=Command)`.
    """
    signature = inspect.signature(function, eval_str=True)
    kinds = {
        name: kind_of(parameter.annotation) for name, parameter in signature.parameters.items()
    }

    @functools.wraps(function)
    def command(*args: Any, config: Path | None = None, **kwargs: Any) -> None:
        check_started(function.__name__)
        _check_ranges(kwargs, kinds)
        function(*args, **kwargs)

    parameters = [*signature.parameters.values(), _config_option(kinds)]
    # typer reads a command's signature and annotations, whatever its code says.
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter was on the command line or in the file of settings.

    Args:
        context: The invocation.
        name: Of the parameter.
    """
    source: Any = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "DEFAULT_MAP")
