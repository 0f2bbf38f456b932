from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from llm_gym.files.untrusted import (
    MOST_RUNS,
    _joins,
    as_html,
    as_markdown,
    as_rich,
    pieces,
    printable,
    shortened,
)

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


# ------------------------------------------------------------------ for people to read in a browser


def shown(text):
    return "".join(run for run, _ in pieces(text))


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "two\nlines\tand a tab   and spaces",
        '<script>alert(1)</script> & "quotes" {{7*7}} \\u202e',
        "Grüße, 你好, مرحبا, שלום",
        "👨\u200d👩\u200d👧 👩🏽\u200d🚀 ❤\ufe0f\u200d🔥",
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian: "I do not want"
        "क्\u200dष",
    ],
)
def test_what_people_write_is_shown_as_it_is(text):
    assert pieces(text) == [(text, False)]


@pytest.mark.parametrize(
    ("character", "escape"),
    [
        ("\x00", "\\x00"),
        ("\x1b", "\\x1b"),
        ("\r", "\\r"),
        ("\u202e", "\\u202e"),
        ("\u2066", "\\u2066"),
        ("\u200b", "\\u200b"),
        ("\u200d", "\\u200d"),
        ("\ufeff", "\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_nobody_would_see_is_spelled_out_and_set_apart(character, escape):
    assert pieces(f"a{character}b") == [("a", False), (escape, True), ("b", False)]


def test_an_escape_that_was_written_out_is_no_escape():
    assert pieces("\\u202e\u202e") == [("\\u202e", False), ("\\u202e", True)]


def test_neighbours_join_into_one_run():
    assert pieces("ab\x00\x01cd") == [("ab", False), ("\\x00\\x01", True), ("cd", False)]


def test_line_ends_of_windows_are_line_ends():
    assert pieces("a\r\nb") == [("a\nb", False)]


def test_nothing_has_no_pieces():
    assert pieces("") == []


def test_joiners_at_the_ends_are_spelled_out():
    assert shown("\u200d👩") == "\\u200d👩"
    assert shown("क\u200c") == "क\\u200c"


def by_character(text):
    """The same runs, by looking at each character between its neighbours."""
    text = text.replace("\r\n", "\n")
    runs = []
    for place, character in enumerate(text):
        # A joiner between neighbours is shown as it is exactly where the three alone are.
        three = text[max(place - 1, 0) : place + 2]
        joins = character in "\u200c\u200d" and len(three) == 3 and _joins(three, 1)
        shown = character if joins or character == "\t" else printable(character)
        if runs and runs[-1][1] == (shown != character):
            runs[-1] = (runs[-1][0] + shown, runs[-1][1])
        else:
            runs.append((shown, shown != character))
    return runs


@given(st.text(st.sampled_from("ab\\\0\t\n\r\u200d\u200c\u202e\ud800क👩\u0301")))
def test_the_runs_are_those_of_a_look_at_each_character(text):
    assert pieces(text) == by_character(text)


@pytest.mark.parametrize(
    "unit", ["a", "\0", "\u200d", "क\u200d", "\r\n", "a\0", "\u202eab", "\U000e0041", "\\\0"]
)
def test_a_text_of_a_megabyte_is_a_bounded_number_of_runs(unit):
    text = unit * (1_000_000 // len(unit.encode()))
    runs = pieces(text)
    assert len(runs) <= MOST_RUNS
    whole = "".join(run for run, _ in runs)
    assert whole.count("a") == text.count("a")
    if "\0" in unit:
        assert whole.count("\\x00") == text.count("\0")


def test_the_rest_of_a_text_with_too_many_runs_is_spelled_out_without_doubt():
    runs = pieces("a\0" * MOST_RUNS + "\\x00\n\t\u202e")
    assert len(runs) == MOST_RUNS
    rest, spelled = runs[-1]
    assert spelled
    assert rest.endswith("\\\\x00\n\t\\u202e")  # what was written out has two backslashes
