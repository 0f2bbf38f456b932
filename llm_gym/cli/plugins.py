"""Commands of plug-ins: an environment with a world of its own brings the commands that need it.

A package offers them as entry points, each a function with typer's annotations:

    [project.entry-points."llm_gym.commands"]
    fly = "llm_gym_autopilot.command:fly"

They are imported when one of them or the list of commands is asked for, not before.
"""

from __future__ import annotations

import inspect
import sys
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from llm_gym.cli.command import Command, configurable
from llm_gym.cli.failures import WrongUsageError, usage_of
from llm_gym.files.untrusted import printable

COMMAND_GROUP = "llm_gym.commands"

# Where the commands of our own plug-ins come from, for people who do not have them yet.
_HOMES = {
    "fly": ("llm-gym-autopilot", "envs/autopilot"),
    "sycophancy": ("llm-gym-sycophancy", "envs/sycophancy"),
}


class PluginGroup(TyperGroup):
    """The program's own commands, and behind them those of plug-ins.

    An own command always wins over a plug-in's of the same name. A plug-in that cannot be imported
    costs its own command only, and a line of warning where commands are listed.
    """

    def main(self, args: Any = None, *, standalone_mode: bool = True, **extra: Any) -> Any:  # type: ignore[override]
        """As the parent's, but a wrong command line is raised as one sentence.

        Raises:
            WrongUsageError: The command line names what there is not.
            SystemExit: The command has ended.
        """
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except Exception as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                typer.echo(error.ctx.get_help())  # type: ignore[attr-defined]
                raise SystemExit(2) from None
            if isinstance(error, typer.Abort):
                raise WrongUsageError("the input has ended before it was answered") from None
            wrong = usage_of(error)
            if wrong is None:
                raise
            raise wrong from None
        raise SystemExit(code if isinstance(code, int) else 0)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the parent's; keeps the whole line, which `--processes` starts again."""
        ctx.obj = list(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands that work, our own first."""
        working, complaints = [], list(self._plugins.complaints)
        for name, plugin in self._plugins.commands.items():
            try:
                _command(plugin)
            except Exception as error:  # whatever somebody else's module raises
                complaints.append(f"{_described(plugin)} is left out: {_reason(error)}")
            else:
                working.append(name)
        if not ctx.resilient_parsing:  # a shell that completes a line wants to hear nothing else
            for complaint in complaints:
                _warn(complaint)
        return [*super().list_commands(ctx), *sorted(working)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Returns a command by its name, None if there is none.

        Args:
            ctx: The invocation.
            cmd_name: What was typed.

        Raises:
            ImportError: The command's plug-in is not installed or does not load.
        """
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            return command
        plugin = self._plugins.commands.get(cmd_name)
        if plugin is not None:
            try:
                return _command(plugin)
            except Exception as error:  # whatever somebody else's module raises
                if ctx.resilient_parsing:
                    return None
                raise ImportError(
                    f"{_described(plugin)} does not load: {_reason(error)}"
                ) from error
        if cmd_name in _HOMES and not ctx.resilient_parsing:
            package, folder = _HOMES[cmd_name]
            raise ImportError(
                f"there is no command {cmd_name!r} here: commands of environments come with "
                f"their package: pip install {package} (in a checkout: pip install -e {folder})"
            )
        return None

    @cached_property
    def _plugins(self) -> _Plugins:
        plugins = _Plugins({}, [])
        for plugin in entry_points(group=COMMAND_GROUP):
            if plugin.name in self.commands:
                reason = "llm-gym has its own command of that name"
            elif plugin.name in plugins.commands:
                reason = f"{plugins.commands[plugin.name].value} has the name"
            else:
                plugins.commands[plugin.name] = plugin
                continue
            plugins.complaints.append(f"{_described(plugin)} is left out: {reason}")
        return plugins


class _Plugins(NamedTuple):
    """What is installed: commands by name, and why others are not among them."""

    commands: dict[str, EntryPoint]
    complaints: list[str]


def _command(plugin: EntryPoint) -> Any:
    """The function behind an entry point, as a command."""
    function = plugin.load()
    if not inspect.isfunction(function):
        raise TypeError(f"it must be a function, not {type(function).__name__}")
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name=plugin.name, cls=Command)(configurable(function))
    return typer.main.get_command(alone)


def _described(plugin: EntryPoint) -> str:
    return f"the plug-in command {plugin.name!r} ({plugin.value})"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _warn(text: str) -> None:
    line = printable(" ".join(text.split()), multiline=False)
    print(f"llm-gym: warning: {line}", file=sys.stderr)
