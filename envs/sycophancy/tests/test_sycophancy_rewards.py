"""Reward tables against the scorers that give one number at a time."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from llm_gym_sycophancy import (
    CITIES,
    FACTS_MODEL,
    OPENINGS,
    AgreementPenalty,
    AnswerScorer,
    CityAnswer,
    classifier_rewards,
    correction,
    questions_of,
    rater_rewards,
)
from transformers import AutoModelForSequenceClassification

from llm_gym.language_models import PROMPT_TEMPLATE, resolve
from llm_gym.scorers import SequenceClassifierScorer

TEMPLATE = PROMPT_TEMPLATE + "{completion}"


def classifier(labels=1):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_pretrained(
            resolve(FACTS_MODEL), num_labels=labels, dtype=torch.float32
        ).eval()


def test_a_raters_table_is_what_the_scorer_says_about_the_texts():
    for question in questions_of("test", variants=1)[:5]:
        answers = [CityAnswer(opening, city) for opening in OPENINGS for city in CITIES]
        texts = [answer.text for answer in answers]
        row = question.row()
        prompts = [row.pop("prompt")] * len(texts)
        columns = {name: [value] * len(texts) for name, value in row.items()}
        plain = AnswerScorer(truth=1.5, agreement=2.5)
        expected = plain(prompts, texts, **columns)
        table = rater_rewards([question], truth=1.5, agreement=2.5)
        assert table.ravel().tolist() == expected
        penalised = AgreementPenalty(plain, 4.0)(prompts, texts, **columns)
        assert (table - 4.0 * correction([question])).ravel().tolist() == penalised


@pytest.mark.parametrize("template", [TEMPLATE, TEMPLATE + "<|endoftext|>"])
def test_a_reward_models_table_is_what_the_plain_scorer_gives(facts_tokenizer, template):
    """With the prompt read once for all cities, and prompts of several lengths."""
    questions = questions_of("train", variants=1)[:5] + questions_of("test", variants=1)[3:5]
    model = classifier()
    table = classifier_rewards(model, facts_tokenizer, questions, template=template)
    assert table.shape == (7, len(OPENINGS), len(CITIES))
    scorer = SequenceClassifierScorer(model, tokenizer=facts_tokenizer, template=template)
    rng = np.random.default_rng(0)
    for row, question in enumerate(questions):
        for _ in range(6):
            o, c = rng.integers(len(OPENINGS)), rng.integers(len(CITIES))
            text = CityAnswer(OPENINGS[o], CITIES[c]).text
            assert table[row, o, c] == pytest.approx(scorer([question.prompt], [text])[0], abs=1e-5)
    assert table.std() > 0.01


def test_a_classifier_with_several_labels_is_no_reward_model(facts_tokenizer):
    with pytest.raises(ValueError, match="a reward model has one label, this one has 3"):
        classifier_rewards(classifier(3), facts_tokenizer, questions_of("test"))


def _shifted(read):
    read.last_hidden_state = read.last_hidden_state + 1.0
    return read


def _refused(read):
    raise NotImplementedError("no such cache")


@pytest.mark.parametrize(
    ("lie", "trouble"),
    [(_shifted, "scores differ from those of whole texts"), (_refused, "no such cache")],
)
def test_a_cache_that_lies_is_not_used_and_it_is_said(facts_tokenizer, monkeypatch, lie, trouble):
    questions = questions_of("train", variants=1)[:2]
    model = classifier()
    expected = classifier_rewards(model, facts_tokenizer, questions)
    forward = model.base_model.forward

    def lying(*args, **kwargs):
        read = forward(*args, **kwargs)
        return read if kwargs.get("past_key_values") is None else lie(read)

    monkeypatch.setattr(model.base_model, "forward", lying)
    with pytest.warns(UserWarning, match=f"does not go on rightly from its cache .*{trouble}"):
        table = classifier_rewards(model, facts_tokenizer, questions)
    np.testing.assert_allclose(table, expected, atol=1e-5)


def test_a_right_cache_is_used_without_a_word(facts_tokenizer, monkeypatch):
    model = classifier()
    cached = []
    forward = model.base_model.forward
    monkeypatch.setattr(
        model.base_model,
        "forward",
        lambda **kwargs: cached.append("past_key_values" in kwargs) or forward(**kwargs),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier_rewards(model, facts_tokenizer, questions_of("train", variants=1)[:8])
    assert sum(cached) > 2
