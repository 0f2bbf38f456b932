"""Types of trained weights, however their names were made, and where a warning points."""

from __future__ import annotations

import warnings

import pytest
import torch

from llm_gym.language_models.trained_types import (
    PrecisionWarning,
    is_coarse,
    refuse_float16,
    refuse_training,
    say_coarse,
)
from llm_gym.testing.tiny import tiny_model


def made(name: str) -> str:
    """A name as files and command lines give it: no literal of the program's."""
    return "".join(list(name))


@pytest.mark.parametrize("back", [1, 2, 3])
def test_a_warning_points_at_who_asked(back):
    def ask():
        say_coarse(back)

    def first():
        ask()

    def second():
        first()

    def third():
        second()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        third()
    (warning,) = caught
    assert warning.category is PrecisionWarning
    assert warning.filename == __file__
    assert warning.lineno == [first, second, third][back - 1].__code__.co_firstlineno + 1


def test_types_are_told_by_what_their_names_say(tmp_path):
    for kind in ("bfloat16", "float16"):
        tiny_model().to(getattr(torch, kind)).save_pretrained(tmp_path / kind)
    assert is_coarse(tmp_path / "float16", made("bfloat16"))
    assert is_coarse(tmp_path / "bfloat16", made("auto"))
    assert not is_coarse(tmp_path / "bfloat16", made("float32"))
    with pytest.raises(ValueError, match="dtype='float16'"):
        refuse_float16(made("float16"))
    with pytest.raises(ValueError, match="dtype='auto' is float16"):
        refuse_training(tmp_path / "float16", made("auto"))
    refuse_training(tmp_path / "float16", made("float32"))
