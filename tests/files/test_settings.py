from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from llm_gym.files.settings import argument_parser, config_from, options_of, setting


@dataclass(frozen=True)
class Config:
    size: int = setting(3, "how large: in metres")
    limit: float | None = setting(None, "at most 100 %")
    loud: bool = setting(False, "heard everywhere")


@dataclass(frozen=True)
class Inheriting(Config):
    limit: float | None = setting(None, "at most what its friends allow")
    colour: str = setting("red", "what it looks like")


def test_a_setting_is_an_ordinary_field_with_a_default():
    assert Config() == Config(size=3, limit=None, loud=False)
    assert Config(7).size == 7
    assert [field.name for field in fields(Config)] == ["size", "limit", "loud"]


def test_options_of_a_class_stand_before_those_of_its_parents():
    assert [option.name for option in options_of(Inheriting)] == ["colour", "size", "limit", "loud"]


def test_a_parents_help_counts_unless_the_class_has_its_own():
    assert {option.name: option.help for option in options_of(Inheriting)} == {
        "size": "how large: in metres",
        "limit": "at most what its friends allow",
        "loud": "heard everywhere",
        "colour": "what it looks like",
    }


@dataclass(frozen=True)
class Silent:
    size: int = 3


@dataclass(frozen=True)
class Demanding:
    size: int


@pytest.mark.parametrize("config", [Silent, Demanding])
def test_a_field_without_help_or_default_is_an_error(config):
    with pytest.raises(ValueError, match=rf"{config.__name__}\.size needs setting"):
        options_of(config)


def test_options_are_read_with_the_type_of_their_field():
    parser = argument_parser("What it does.", Config)
    assert vars(parser.parse_args([])) == {"size": 3, "limit": None, "loud": False}
    values = vars(parser.parse_args(["--limit", "2", "--size", "5", "--loud"]))
    assert values == {"size": 5, "limit": 2.0, "loud": True}
    assert isinstance(values["limit"], float)


def test_a_script_may_have_other_defaults():
    parser = argument_parser(None, Inheriting, size=9)
    assert parser.parse_args([]).size == 9
    assert "how large: in metres [9]" in parser.format_help()


def test_help_shows_text_options_with_defaults_and_commands_in_this_order():
    shown = argument_parser("What it does.\n\nCommands:\n\n    do it", Config).format_help()
    parts = ("What it does.", "in metres [3]", "at most 100 %\n", "everywhere\n", "do it")
    places = [shown.index(part) for part in parts]
    assert places == sorted(places)


def test_a_part_takes_its_settings_by_name_its_own_before_those_of_all():
    @dataclass(frozen=True)
    class Part:
        seed: int = 0
        epochs: int = 1
        rate: float = 0.1
        name: str = "x"

    whole = {"seed": 7, "rate": 0.5, "part_rate": 0.9, "epochs": 4, "other_epochs": 5, "more": 1}
    assert config_from(Part, whole) == Part(seed=7, rate=0.5, epochs=4)
    assert config_from(Part, whole, prefix="part_") == Part(seed=7, rate=0.9, epochs=4)
    assert config_from(Part, whole, name="y", seed=1) == Part(seed=1, rate=0.5, epochs=4, name="y")
