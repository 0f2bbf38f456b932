"""The command that a run ends with."""

from __future__ import annotations

import pytest

from llm_gym.stages.pages import command_to_try

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "A model."},
    {"role": "user", "content": "\nWhose?\nAnd why?"},
]


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("Hello there", "'Hello there'"),
        ("\n  first\nsecond", "first"),
        ("-v", "-- -v"),
        ("", "Hello"),
        (TURNS, "'Whose?'"),
    ],
)
def test_the_first_line_of_a_prompt_is_asked(prompt, asked):
    assert command_to_try("runs/model", prompt) == f"llm-gym generate --model runs/model {asked}"
