"""Comparisons, votes and preferences check themselves."""

from __future__ import annotations

import math

import pytest

from llm_gym.feedback.preferences import Choice, Comparison, Preference, Vote


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_empty_texts_are_refused_by_name(empty):
    with pytest.raises(ValueError, match="prompt is empty"):
        Comparison(empty, ("a", "b"))
    with pytest.raises(ValueError, match=r"answers\[1\] is empty"):
        Comparison("p", ("a", empty))
    with pytest.raises(ValueError, match="rejected is empty"):
        Preference("p", "a", empty)
    with pytest.raises(ValueError, match="rater is empty"):
        Vote(1, empty, Choice.TIE, 0.0, 0)


def test_identical_answers_are_refused():
    with pytest.raises(ValueError, match="identical"):
        Comparison("p", ("same", "same"))
    with pytest.raises(ValueError, match="identical"):
        Preference("p", "same", "same")


@pytest.mark.parametrize("answers", ["ab", ("a",), ("a", "b", "c")])
def test_answers_must_be_two(answers):
    with pytest.raises(TypeError, match="pair of texts"):
        Comparison("p", answers)


def test_a_text_must_be_a_text():
    with pytest.raises(TypeError, match="chosen must be a text, got 3 of type int"):
        Preference("p", 3, "b")


def test_half_a_character_is_refused():
    with pytest.raises(ValueError, match="lone surrogate at character 1"):
        Comparison("p", ("a\ud800", "b"))


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"x": object()}, "JSON"),
        ({"x": math.nan}, "JSON"),
        ({"x": "\ud800"}, "JSON"),
        ({"prompt": "p"}, "may not be called 'prompt'"),
        ({3: "x"}, "may not be called 3"),
    ],
)
def test_columns_must_fit_into_a_file(columns, problem):
    with pytest.raises(ValueError, match=problem):
        Comparison("p", ("a", "b"), columns)
    with pytest.raises(TypeError, match="columns must be a mapping"):
        Comparison("p", ("a", "b"), [1])


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        ({"choice": "left"}, ValueError, "'first', 'second', 'tie', 'skip', got 'left'"),
        ({"seconds": -1}, ValueError, "seconds must be at least 0"),
        ({"seconds": math.nan}, ValueError, "seconds must be finite"),
        ({"seconds": "3"}, TypeError, "seconds must be a number"),
        ({"shown_first": 2}, ValueError, "shown_first must be 0 or 1"),
        ({"comparison_id": "1"}, TypeError, "comparison_id must be a whole number"),
    ],
)
def test_a_vote_names_what_is_wrong(change, error, problem):
    good = {
        "comparison_id": 1,
        "rater": "ann",
        "choice": Choice.FIRST,
        "seconds": 2.0,
        "shown_first": 0,
    }
    assert Vote(**good).choice is Choice.FIRST
    with pytest.raises(error, match=problem):
        Vote(**{**good, **change})


def test_a_choice_may_be_given_by_its_name():
    assert Vote(1, "ann", "tie", 0, True).choice is Choice.TIE


def test_a_row_is_what_trl_reads():
    row = Preference("p", "a", "b", {"x": 1}).to_dict()
    assert list(row.items()) == [("prompt", "p"), ("chosen", "a"), ("rejected", "b"), ("x", 1)]


@pytest.mark.parametrize("number", [True, False])
def test_a_switch_is_no_number_of_a_comparison(number):
    with pytest.raises(TypeError, match="comparison_id must be a whole number"):
        Vote(number, "a", Choice.FIRST, 1.0, 0)
