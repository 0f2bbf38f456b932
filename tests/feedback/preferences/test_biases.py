"""What simulated raters like besides quality."""

from __future__ import annotations

import pytest

from llm_gym.feedback.preferences import Bias, flattery_bias, length_bias


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


def test_a_bias_checks_itself():
    with pytest.raises(TypeError, match="feature of the bias 'x' must be callable"):
        Bias("x", 3, 1.0)
    with pytest.raises(ValueError, match="weight of the bias 'x' must be finite"):
        Bias("x", lambda *_: 0.0, float("nan"))
    with pytest.raises(ValueError, match="the feature of the bias 'x' must be finite"):
        Bias("x", lambda *_: float("inf"), 1.0).value("p", "a", {})
