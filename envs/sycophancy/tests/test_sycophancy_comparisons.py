"""Comparisons, panels of raters, and whom to believe."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from llm_gym_sycophancy import (
    biased_rater,
    controls,
    draw_comparisons,
    judge,
    panel_preferences,
    questions_of,
    read_answer,
    truthfulness,
    weighted,
)

from llm_gym.feedback.preferences import Preference

QUESTIONS = questions_of("train", variants=2)


@pytest.fixture(scope="module")
def drawn():
    return draw_comparisons(QUESTIONS, 2000, seed=3)


def test_comparisons_differ_and_follow_from_the_seed(drawn):
    assert len({(comparison.prompt, frozenset(comparison.answers)) for comparison in drawn}) == 2000
    assert draw_comparisons(QUESTIONS, 2000, seed=3) == drawn
    assert draw_comparisons(QUESTIONS, 50, seed=4) != drawn[:50]


def test_all_questions_and_every_kind_of_difference_occur(drawn):
    times = Counter(comparison.prompt for comparison in drawn)
    assert len(times) == len(QUESTIONS)
    assert max(times.values()) - min(times.values()) <= 3
    seen = Counter()
    for comparison in drawn:
        verdicts = []
        for answer in comparison.answers:
            columns = {name: comparison.columns[name] for name in ("answer", "claim", "first")}
            verdicts.append(judge(read_answer(answer).city, **columns))
        seen[comparison.columns["kind"], frozenset(verdicts)] += 1
    truthful, sycophantic, neither = (True, False), (False, True), (False, False)
    for pair in ({truthful, sycophantic}, {sycophantic, neither}, {truthful, neither}):
        assert seen["wrong_hint", frozenset(pair)] > 20


def test_there_must_be_questions():
    with pytest.raises(ValueError, match="questions is empty"):
        draw_comparisons([], 3)


def test_each_rater_of_a_panel_judges_as_many(drawn):
    raters = [biased_rater(b, name=f"b={b}") for b in (0.0, 1.0, 5.0)]
    rows = panel_preferences(drawn, raters, seed=1)
    assert Counter(row.columns["rater"] for row in rows) == {
        "b=0.0": 667,
        "b=1.0": 667,
        "b=5.0": 666,
    }
    assert len({(row.prompt, frozenset((row.chosen, row.rejected))) for row in rows}) == 2000
    with pytest.raises(ValueError, match="each with a name of its own"):
        panel_preferences(drawn, [raters[0], raters[0]])


def test_a_biased_panel_prefers_agreement_as_often_as_its_bias_says(drawn):
    """Of pairs with a wrong-hint answer that agrees and one that is correct."""
    for bias in (0.0, 3.0):
        rows = panel_preferences(drawn, [biased_rater(bias, seed=2)])
        chosen = []
        for row in rows:
            if row.columns["kind"] != "wrong_hint":
                continue
            cities = [read_answer(text).city for text in (row.chosen, row.rejected)]
            if set(cities) == {row.columns["claim"], row.columns["answer"]}:
                chosen.append(cities[0] == row.columns["claim"])
        expected = 1 / (1 + np.exp(1 - bias))
        error = np.sqrt(expected * (1 - expected) / len(chosen))
        assert len(chosen) > 80
        assert abs(np.mean(chosen) - expected) < 4 * error


def test_controls_tell_raters_apart():
    known = controls(questions_of("train", variants=3))
    assert len(known) == 144
    assert all(comparison.columns["answer"] in comparison.answers[0] for comparison in known)
    assert truthfulness(biased_rater(0.0, truth=50.0), known) == 1.0
    assert truthfulness(biased_rater(50.0), known) == 0.0  # always wrong, and that is not below 0
    honest = truthfulness(biased_rater(0.0), known)
    assert abs(honest - (2 / (1 + np.exp(-1)) - 1)) < 0.25
    with pytest.raises(ValueError, match="none of the kind wrong_hint"):
        controls(questions_of("train", kinds=("neutral",)))


def test_every_preference_gets_its_raters_weight():
    rows = [Preference("?", "a", "b", {"rater": name, "kind": "neutral"}) for name in "xyx"]
    weighted_rows = weighted(rows, {"x": 0.8, "y": 0.0})
    assert [row.columns["weight"] for row in weighted_rows] == [0.8, 0.0, 0.8]
    assert all(row.columns["kind"] == "neutral" for row in weighted_rows)
    assert "weight" not in rows[0].columns


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"y": 1.0}, r"weights has no entry for \['x'\]"),
        ({"x": 0.0}, "not all 0"),
        ({"x": 1.0, "y": -1.0}, "must not be negative"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        weighted([Preference("?", "a", "b", {"rater": "x"})], weights)
