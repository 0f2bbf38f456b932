"""Rules: regular expressions, length, keywords."""

from __future__ import annotations

import copy
import doctest
import re

import pytest

import llm_gym.scorers.rules
from llm_gym.scorers import KeywordScorer, LengthScorer, RegexScorer


def score(scorer, *completions):
    return scorer(["prompt"] * len(completions), list(completions))


def test_the_examples_in_the_docstrings_are_true():
    outcome = doctest.testmod(llm_gym.scorers.rules)
    assert outcome.attempted >= 6
    assert outcome.failed == 0


def test_regex_searches_unless_told_to_match_all():
    assert score(RegexScorer(r"\d+", 2.0, -1.0), "no 5 here", "none") == [2.0, -1.0]
    assert score(RegexScorer(r"\d+", full_match=True), "no 5 here", "55", "55\n") == [0, 1, 0]


def test_regex_takes_compiled_patterns_with_their_flags():
    assert score(RegexScorer(re.compile("dear", re.IGNORECASE)), "DEAR sir") == [1.0]


@pytest.mark.parametrize(
    ("pattern", "error"), [("(", ValueError), (re.compile(b"a"), TypeError), (3, TypeError)]
)
def test_bad_patterns_are_refused(pattern, error):
    with pytest.raises(error, match="pattern"):
        RegexScorer(pattern)


def test_regex_scores_must_be_finite():
    with pytest.raises(ValueError, match="otherwise must be finite"):
        RegexScorer("a", 1.0, float("nan"))


@pytest.mark.parametrize(
    ("words", "expected"), [(0, 0), (10, 0), (15, 0.5), (20, 1), (22, 0.8), (30, 0), (90, 0)]
)
def test_length_is_a_tent(words, expected):
    scorer = LengthScorer(20, tolerance=10)
    assert score(scorer, "word " * words) == pytest.approx([expected])


def test_length_counts_characters_when_told():
    assert score(LengthScorer(4, unit="characters"), "four", "no", "") == [1.0, 0.5, 0.0]


def test_a_target_of_nothing_works():
    assert score(LengthScorer(0), "", "a") == [1.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": -1}, "target must be at least 0"),
        ({"target": 5, "tolerance": 0}, "tolerance must be above 0"),
        ({"target": 5, "unit": "lines"}, "unit must be"),
        ({"target": float("nan")}, "target must be finite"),
    ],
)
def test_bad_lengths_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LengthScorer(**arguments)


def test_a_keyword_counts_once_however_often_it_is_said():
    scorer = KeywordScorer({"please": 1.0})
    assert score(scorer, "please", "please please PLEASE", "nothing") == [1.0, 1.0, 0.0]


def test_keywords_are_whole_words_in_any_case():
    scorer = KeywordScorer({"Thank": 1.0, "STRASSE": 2.0})
    assert score(scorer, "THANK you", "thankless", "rethank", "straße") == [1.0, 0.0, 0.0, 2.0]


def test_keywords_may_be_phrases_and_punctuation():
    scorer = KeywordScorer({"kind regards": 1.0, "c++": 2.0, "#thanks": 4.0})
    assert score(scorer, "Kind\n  regards", "C++ is", "a #thanks!") == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "weights is empty"),
        ({" ": 1.0}, "empty word"),
        ({"please": 1.0, "Please": 1.0}, "'please' twice"),
        ({"please": float("inf")}, "weight of 'please' must be finite"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        KeywordScorer(weights)


@pytest.mark.parametrize(
    "scorer", [RegexScorer("a"), LengthScorer(3), KeywordScorer({"a": 1.0})], ids=repr
)
def test_rules_can_be_copied(scorer):
    texts = ("a", "b", "a b c")
    assert score(copy.deepcopy(scorer), *texts) == score(scorer, *texts)
