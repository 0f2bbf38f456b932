from __future__ import annotations

from dataclasses import dataclass

import pytest

from llm_gym.stages.settings import field_help


@dataclass(frozen=True)
class Commented:
    size: int = 3  # how large: in metres
    name: str = "x"  # what it is called.


@dataclass(frozen=True)
class Documented:
    """Settings.

    Attributes:
        size: How large,
            in metres.
        name: What it is called.
    """

    size: int = 3
    name: str = "x"


@dataclass(frozen=True)
class Silent:
    size: int = 3


def test_comments_and_docstrings_are_the_help():
    assert field_help(Commented) == {"size": "how large: in metres", "name": "what it is called"}
    assert field_help(Documented) == {"size": "How large, in metres", "name": "What it is called"}


@dataclass(frozen=True)
class Inheriting(Documented):
    """More settings.

    Attributes:
        colour: What it looks like.
        name: What its friends call it.
    """

    colour: str = "red"


def test_a_parents_description_counts_unless_the_class_has_its_own():
    assert field_help(Inheriting) == {
        "size": "How large, in metres",
        "name": "What its friends call it",
        "colour": "What it looks like",
    }


def test_a_field_that_is_not_described_is_an_error():
    with pytest.raises(ValueError, match=r"Silent\.size is not described"):
        field_help(Silent)
