from __future__ import annotations

import pytest

from llm_gym.feedback.labelling.visible import pieces


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
