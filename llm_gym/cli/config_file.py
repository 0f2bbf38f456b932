"""Files of a command's options: `--config run.yaml`, and the one that every run leaves behind."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer
import yaml

from llm_gym.files import atomic
from llm_gym.runs.directory import RunDirectory

NAME = "config.yaml"
"""What a run calls the file with which it can be done again."""

_HEADER = "# llm-gym "
_NOT_SETTINGS = ("config", "help")


class _Loader(yaml.SafeLoader):
    """YAML without keys that are there twice, of which PyYAML would silently take the last.

    And without aliases, by which a few lines say what no memory can hold.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(None, None, "aliases (*name) are not read", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.MarkedYAMLError(
                None, None, f"the key {twice!r} is there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_config(path: str | Path, command: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Reads options from a file.

    Args:
        path: A YAML file, of which JSON is a part: names of options (`batch-size` or `batch_size`)
            and of arguments with their values. null leaves an option at its default.
        command: The command that they are for.
        kinds: Types of its parameters, of one value each.

    Returns:
        Values by the name of the command's parameter.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no mapping, names an option that the command has not, or gives one a value
            of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"--config {path}: there is no such file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)  # noqa: S506 -- is safe
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, (dict, type(None))):
        raise ValueError(f"{path} must say NAME: VALUE on each line, got {content!r:.60}")
    parameters = {_key(parameter): parameter for parameter in _parameters(command)}
    values: dict[str, Any] = {}
    for name, value in (content or {}).items():
        key = str(name).replace("-", "_")
        if key not in parameters:
            raise ValueError(
                f"{path}: `{command.name}` has no option {name!r}{_hint(key, parameters)}"
            )
        parameter = parameters[key]
        if parameter.name in values:
            raise ValueError(f"{path}: {name!r} is there twice")
        if value not in (None, []):
            values[parameter.name] = _checked(
                value, parameter, kinds[parameter.name], f"{path}: {name}"
            )
    return values


@contextmanager
def leaving_config(
    context: typer.Context, directory: str | Path, settings: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Leaves in a run's directory the file that would do it again, when the run has succeeded.

    Args:
        context: The invocation.
        directory: Where to.
        settings: See `config_of`.

    Raises:
        ValueError: There is a file of that name which is not of this program; said beforehand.
    """
    path = Path(directory) / NAME
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(_HEADER):
        raise ValueError(f"{path} is not of this program and stays; choose another --output")
    yield
    header = f"{_HEADER}{context.command.name} --config {shlex.quote(str(path))}\n"
    values = config_of(context, settings)
    atomic.write_text(path, header + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


@contextmanager
def command_directory(context: typer.Context, directory: str | Path) -> Iterator[None]:
    """Keeps a directory for one command while it runs; it leaves its options there at the end.

    Args:
        context: The invocation.
        directory: Where to.

    Raises:
        ValueError: See `RunDirectory.opened` and `leaving_config`.
    """
    run = RunDirectory(directory, {}, command=str(context.command.name))
    with run.opened(), leaving_config(context, directory):
        run.state = "running"
        yield


def config_of(context: typer.Context, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options of an invocation, as a file would have them.

    Args:
        context: The invocation.
        settings: What became of options, by the name of the parameter, where that is not what the
            command line says.

    Returns:
        Plain data by the name that a file uses.
    """
    values = {**context.params, **(settings or {})}
    return {
        _key(p): _plain(values[p.name]) for p in _parameters(context.command) if p.name in values
    }


def _parameters(command: Any) -> list[Any]:
    return [parameter for parameter in command.params if parameter.name not in _NOT_SETTINGS]


def _key(parameter: Any) -> str:
    """What a file calls a parameter: as the command line does, so `import`, not `import_file`."""
    if parameter.param_type_name == "argument":
        return str(parameter.name)
    return max(parameter.opts, key=len).lstrip("-").replace("-", "_")


def _hint(key: str, parameters: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, parameters, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(parameters)}"


def _checked(value: Any, parameter: Any, kind: type, place: str) -> Any:
    """The value, if it is of the parameter's kind."""
    if not (getattr(parameter, "multiple", False) or parameter.nargs == -1):
        return _checked_item(value, kind, place)
    if not isinstance(value, list):
        raise ValueError(f"{place} must be a list, [{value}], got {value!r}")
    return tuple(_checked_item(item, kind, place) for item in value)


def _checked_item(value: Any, kind: type, place: str) -> Any:
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{place} must be true or false, got {value!r}")
        return value
    if kind in (int, float):
        return _number(value, kind, place)
    if isinstance(value, bool):
        raise ValueError(f"{place} must be a text, and YAML reads yes and no as {value}: quote it")
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"{place} must be a text, got {value!r:.60}")
    return str(value)  # a directory may be called 7


def _number(value: Any, kind: type, place: str) -> Any:
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)  # YAML takes 1e-4 for a text: it wants 1.0e-4
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or (kind is int and not float(value).is_integer()):
        whole = "whole " if kind is int else ""
        raise ValueError(f"{place} must be a {whole}number, got {value!r}")
    return kind(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value
