from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from llm_gym.files.untrusted import as_html, as_markdown, as_rich, printable, shortened

HOSTILE = "<script>alert('x')</script>[red]\x1b[31m\u202eabc\u200b\x00\x07\ud800\r\x85&\"\u2028"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 漢字 😀\nnext", "plain äöü 漢字 😀\nnext"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb\tc", "a\\rb\\tc"),
        ("\u202e\u200b", "\\u202e\\u200b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_printable_spells_out_what_a_terminal_would_obey(text, shown):
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_printable_can_always_be_encoded_and_keeps_lines(text):
    shown = printable(text)
    shown.encode("utf-8")
    assert shown.count("\n") == text.count("\n")
    assert "\x1b" not in shown


def test_one_line_is_one_line_and_not_longer_than_asked():
    assert shortened("a\nb", 10) == "a\\nb"
    assert shortened("abcdef", 4) == "abc…"
    assert shortened("abcd", 4) == "abcd"


def test_html_of_hostile_text_has_no_element_and_no_open_attribute():
    shown = as_html(HOSTILE)
    assert not set(shown) & set("<>\"'\x1b\u202e")
    assert "&lt;script&gt;" in shown


def test_rich_prints_markup_and_escapes_literally():
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, color_system="truecolor", width=200).print(
        as_rich(HOSTILE)
    )
    assert "[red]" in stream.getvalue()
    assert "\x1b[31m" not in stream.getvalue()


def test_every_line_of_markdown_is_in_the_block():
    shown = as_markdown("a\n```\n<b>\n\n# b")
    assert all(line.startswith("    ") for line in shown.split("\n"))
