"""Settings as frozen dataclasses: each field says its help, and command lines are made of them.

    @dataclass(frozen=True)
    class Config:
        steps: int = setting(100, "gradient steps")

        def __post_init__(self) -> None:
            check_settings(self)

As in Hugging Face's `HfArgumentParser`, the help is in the field's metadata. What a number may be
is said by its name (`llm_gym.files.ranges`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from llm_gym.files.ranges import Range

Value = TypeVar("Value")
Config = TypeVar("Config")

AUTO_ON_OFF: dict[str, bool | str] = {"auto": "auto", "on": True, "off": False}
"""Values of some settings, and what a policy calls them."""


def setting(default: Value, help: str, within: Range | None = None) -> Value:
    """A field of a settings dataclass.

    Args:
        default: Its default.
        help: What it means, on one line: what follows the name in a list of options.
        within: What it may be, where that is not what its name says in `RANGES`.

    Returns:
        A `dataclasses.field`, typed as the value that it will hold.
    """
    ranges = {} if within is None else {"range": within}
    return field(default=default, metadata={"help": help, **ranges})


@dataclass(frozen=True)
class Option:
    """A setting as an option of a command.

    Attributes:
        name: Of the field.
        kind: Its type, `int | None` for example.
        default: Its default.
        help: What it means.
    """

    name: str
    kind: Any
    default: Any
    help: str

    @property
    def flag(self) -> str:
        """As on a command line: `--batch-size`."""
        return "--" + self.name.replace("_", "-")

    @property
    def parse(self) -> Any:
        """What reads the option from a string; `int | None` is read by `int`."""
        return getattr(self.kind, "__args__", (self.kind,))[0]


def options_of(config: type) -> list[Option]:
    """The settings of a dataclass, first those that are its own, then those of its parents.

    Args:
        config: A dataclass whose fields are made by `setting`.

    Raises:
        ValueError: A field has no default or no help.
    """
    depths = {name: depth for depth, parent in enumerate(config.__mro__) for name in _names(parent)}
    kinds, options = get_type_hints(config), []
    for part in sorted(fields(config), key=lambda part: depths[part.name]):
        if part.default is MISSING or "help" not in part.metadata:
            raise ValueError(f"{config.__name__}.{part.name} needs setting(default, help)")
        options.append(Option(part.name, kinds[part.name], part.default, part.metadata["help"]))
    return options


def defaults_of(config: type) -> dict[str, Any]:
    """What settings are that nobody has given, by name.

    Args:
        config: A dataclass; fields without a default are left out.
    """
    made = {part.name: part.default for part in fields(config)}
    return {name: default for name, default in made.items() if default is not MISSING}


def _names(config: type) -> list[str]:
    """Names of a dataclass's fields, its parents' included."""
    return [part.name for part in fields(config)] if is_dataclass(config) else []


def config_from(
    config: type[Config], values: Mapping[str, Any], *, prefix: str = "", **more: Any
) -> Config:
    """Settings of a part, taken by name from those of the whole.

    Args:
        config: Dataclass of the part's settings; what `values` does not name has its default.
        values: The whole's settings.
        prefix: A setting with it before its name is the part's own, and wins: with `sft_`, `epochs`
            is `sft_epochs` if there is one.
        **more: Settings that follow from none of the whole's, or differ from it.
    """
    chosen = {
        part.name: values[name]
        for part in fields(config)  # type: ignore[arg-type]
        for name in (part.name, prefix + part.name)  # the second wins
        if name in values
    }
    return config(**{**chosen, **more})


def argument_parser(
    documentation: str | None, *configs: type, **defaults: Any
) -> argparse.ArgumentParser:
    """A parser with an option for each setting.

    Args:
        documentation: A script's docstring. What follows "Commands:" is shown after the options,
            the rest before.
        *configs: Dataclasses whose fields are made by `setting`.
        **defaults: Other defaults than the dataclasses'.

    Returns:
        The parser, to which a script may add further options.
    """
    description, heading, commands = (documentation or "").partition("Commands:")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"commands:{commands}" if heading else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for option in (option for config in configs for option in options_of(config)):
        default = defaults.get(option.name, option.default)
        shown = "" if default is None or default is False else f" [{default}]"
        reading = {"action": "store_true"} if option.kind is bool else {"type": option.parse}
        parser.add_argument(
            option.flag,
            default=default,
            help=(option.help + shown).replace("%", "%%"),
            **reading,
        )
    return parser
