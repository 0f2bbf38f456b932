"""The bag of words that a reward model is held against."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model import RewardModelConfig, fit_reward_model
from llm_gym.feedback.reward_model.rival import _differences, _vocabulary, told_rival, word_margins

WORDS = [f"w{n}" for n in range(12)]


def preferences(count, seed, *, worth):
    """People who go by the worth of words, with the noise of Bradley and Terry."""
    rng = np.random.default_rng(seed)
    rows = []
    while len(rows) < count:
        answers = [rng.choice(WORDS, size=rng.integers(3, 9)) for _ in range(2)]
        first, second = (sum(worth.get(word, 0.0) for word in answer) for answer in answers)
        if rng.random() > 1 / (1 + np.exp(second - first)):
            answers.reverse()
        texts = [" ".join(answer) for answer in answers]
        if texts[0] != texts[1]:
            rows.append(Preference(f"p{len(rows) % 40}", *texts))
    return rows


def test_words_that_people_go_by_are_found():
    worth = {"w0": 2.0, "w1": -2.0}
    train, test = (preferences(400, seed, worth=worth) for seed in (0, 1))
    ideal = np.mean(
        [
            sum(worth.get(w, 0) for w in row.chosen.split())
            > sum(worth.get(w, 0) for w in row.rejected.split())
            for row in test
        ]
    )
    assert np.mean(word_margins(train, test) > 0) > ideal - 0.03
    nothing = word_margins(preferences(400, 0, worth={}), preferences(400, 1, worth={}))
    assert np.mean(nothing > 0) == pytest.approx(0.5, abs=0.08)


def test_the_weights_are_at_the_optimum_by_newtons_method():
    rows = preferences(60, 2, worth={"w0": 1.0})
    place, column, value = _differences(rows, *_vocabulary(rows))
    matrix = np.zeros((len(rows), len(WORDS)))
    np.add.at(matrix, (place, column), value)
    weights = np.zeros(len(WORDS))
    for _ in range(30):
        right = 1 / (1 + np.exp(-matrix @ weights))
        gradient = -matrix.T @ (1 - right) + weights
        curvature = (matrix.T * (right * (1 - right))) @ matrix + np.eye(len(WORDS))
        weights -= np.linalg.solve(curvature, gradient)
    assert word_margins(rows, rows) == pytest.approx(matrix @ weights, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=8))
def test_any_texts_have_finite_margins_that_turn_with_the_answers(texts):
    pairs = [(a, b) for a, b in texts if a.strip() and b.strip() and a != b and _whole(a + b)]
    rows = [Preference("p", first, second) for first, second in pairs] or [
        Preference("p", "a", "b")
    ]
    margins = word_margins(rows, rows)
    assert np.isfinite(margins).all()
    turned = [Preference(row.prompt, row.rejected, row.chosen) for row in rows]
    assert word_margins(rows, turned) == pytest.approx(-margins)


def _whole(text):
    return not any("\ud800" <= character <= "\udfff" for character in text)


def test_a_reward_model_that_is_worse_says_so(tiny_dir):
    worth = {"w0": 6.0, "w1": -6.0}
    rows, held_out = preferences(200, 3, worth=worth), preferences(100, 4, worth=worth)
    config = RewardModelConfig(
        head="finetune", model=tiny_dir(), template="{completion}", learning_rate=1e-9
    )
    _, metrics = fit_reward_model(rows, config, held_out=held_out, quiet=True)
    rival, own = metrics["bag_of_words"], metrics["held_out"]["accuracy"]
    assert rival["value"] > 0.7 > own["value"]
    assert rival["n"] == own["n"] == 100
    words, gain = metrics["tfidf"]["accuracy"], metrics["tfidf"]["gain"]
    assert gain["value"] == pytest.approx(own["value"] - words["value"])
    assert gain["low"] < gain["value"] < gain["high"] < 0
    line = told_rival(metrics)
    assert f"{words['value']:.3f}" in line
    assert f"{gain['value']:+.3f}" in line
    assert "no more than words" in line
    better = {"tfidf": {"accuracy": words, "gain": {**gain, "value": 0.1}}}
    assert "no more than words" not in told_rival(better)
