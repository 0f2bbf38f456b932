from __future__ import annotations

from dataclasses import dataclass

import pytest

from llm_gym.pipeline.settings import field_help


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


def test_a_field_that_is_not_described_is_an_error():
    with pytest.raises(ValueError, match=r"Silent\.size is not described"):
        field_help(Silent)
