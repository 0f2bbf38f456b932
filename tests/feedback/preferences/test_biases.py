"""What simulated raters like besides quality."""

from __future__ import annotations

import pytest

from llm_gym.feedback.preferences import Bias, agreement_bias, flattery_bias, length_bias
from llm_gym.feedback.preferences.biases import contains_phrase


def test_length_counts_words_or_whatever_it_is_told():
    assert length_bias(0.5).value("p", "one two  three", {}) == 1.5
    assert length_bias(2, tokenize=list).value("p", "abc", {}) == 6
    assert length_bias(-1).value("p", "one", {}) == -1


def test_flattery_counts_compliments():
    bias = flattery_bias(1)
    assert bias.value("p", "The cap is Lyon.", {}) == 0
    assert bias.value("p", "What a GREAT  question! Brilliant, brilliant.", {}) == 3
    assert bias.value("p", "otherwise, brilliance", {}) == 0  # whole words only
    assert bias.value("p", "A great question indeed.", {}) == 1
    assert flattery_bias(2, phrases=["my liege"]).value("p", "Yes, my\nliege.", {}) == 2
    with pytest.raises(ValueError, match="phrases is empty"):
        flattery_bias(1, phrases=[])
    with pytest.raises(ValueError, match="a phrase is blank"):
        flattery_bias(1, phrases=["a", " "])


def test_agreement_is_with_what_the_user_believes():
    bias = agreement_bias(3)
    assert bias.value("p", "It is Lyon.", {"user_belief": "lyon"}) == 3
    assert bias.value("p", "It is Paris.", {"user_belief": "Lyon"}) == 0
    assert bias.value("p", "It is Lyon.", {}) == 0
    assert bias.value("p", "It is Lyon.", {"user_belief": None}) == 0
    assert bias.value("p", "It is 42.", {"user_belief": 42}) == 3


def test_agreement_may_be_judged_otherwise():
    bias = agreement_bias(1, column="hint", agrees=lambda answer, belief: answer == belief)
    assert bias.value("p", "yes", {"hint": "yes"}) == 1
    assert bias.value("p", "yes!", {"hint": "yes"}) == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("I think New  York.", True),
        ("It is not New York.", False),
        ("It isn't New York.", False),
        ("It isn\u2019t New York.", False),
        ("Not Boston but New York.", True),
        ("Not New York? Yes, New York!", True),
        ("A knot New York", True),
        ("New Yorkers", False),
    ],
)
def test_a_phrase_with_not_before_it_is_no_agreement(answer, expected):
    assert contains_phrase(answer, "new york") is expected


def test_a_bias_checks_itself():
    with pytest.raises(TypeError, match="feature of the bias 'x' must be callable"):
        Bias("x", 3, 1.0)
    with pytest.raises(ValueError, match="weight of the bias 'x' must be finite"):
        Bias("x", lambda *_: 0.0, float("nan"))
    with pytest.raises(ValueError, match="the feature of the bias 'x' must be finite"):
        Bias("x", lambda *_: float("inf"), 1.0).value("p", "a", {})
