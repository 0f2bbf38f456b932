"""The classifier scorer on tiny random models, saved and loaded; nothing is downloaded."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import pipeline

from llm_gym.scorers import ScorerError, SequenceClassifierScorer, WeightedSum
from tests.scorers.tiny_classifiers import (
    bert,
    reward_model,
    save_classifier,
    save_reward_model,
    tokenizer_for,
)

PROMPTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9", "w1"]
COMPLETIONS = ["w10", "w11 w12 w13 w14", "w15 w16", "w17 w18 w19"]


@pytest.fixture(scope="module")
def classifier_directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sentiment")
    save_classifier(directory)
    return directory


@pytest.fixture(scope="module")
def reward_directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("reward")
    save_reward_model(directory)
    return directory


def pipeline_scores(directory, label, **options):
    classify = pipeline("text-classification", model=str(directory), top_k=None, **options)
    pairs = [{"text": p, "text_pair": c} for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    return [{row["label"]: row["score"] for row in classify(pair)}[label] for pair in pairs]


@pytest.mark.parametrize("label", ["polite", 2])
@pytest.mark.parametrize(
    ("output", "function"), [("probability", "softmax"), ("score", "softmax"), ("logit", "none")]
)
def test_a_classifier_gives_the_pipelines_figure(classifier_directory, label, output, function):
    scorer = SequenceClassifierScorer(classifier_directory, label=label, output=output)
    expected = pipeline_scores(classifier_directory, "polite", function_to_apply=function)
    assert len({round(score, 3) for score in expected}) > 1
    np.testing.assert_allclose(scorer(PROMPTS, COMPLETIONS), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("output", "function"), [("probability", "sigmoid"), ("score", "none"), ("logit", "none")]
)
def test_a_reward_model_gives_the_pipelines_figure(reward_directory, output, function):
    scorer = SequenceClassifierScorer(str(reward_directory), output=output)
    expected = pipeline_scores(reward_directory, "LABEL_0", function_to_apply=function)
    assert len({round(score, 3) for score in expected}) > 1
    np.testing.assert_allclose(scorer(PROMPTS, COMPLETIONS), expected, atol=1e-5)


def test_a_multi_label_models_probability_is_the_sigmoid():
    model = bert(problem_type="multi_label_classification")
    tokenizer = tokenizer_for("bert", pad_token="[PAD]")
    logit, probability = (
        SequenceClassifierScorer(model, tokenizer=tokenizer, label=1, output=output)
        for output in ("logit", "probability")
    )
    logits = np.array(logit(PROMPTS, COMPLETIONS))
    np.testing.assert_allclose(
        probability(PROMPTS, COMPLETIONS), 1 / (1 + np.exp(-logits)), rtol=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("kind", ["classifier", "reward"])
def test_padding_and_batching_do_not_change_a_score(request, kind, batch_size):
    directory = request.getfixturevalue(f"{kind}_directory")
    scorer = SequenceClassifierScorer(directory, label=0, batch_size=batch_size)
    alone = [scorer([p], [c])[0] for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    np.testing.assert_allclose(scorer(PROMPTS, COMPLETIONS), alone, atol=1e-5)


@pytest.mark.parametrize("tokenizer_pad", [None, "<eos>"])
@pytest.mark.parametrize("model_pad", [None, 0])
def test_the_models_own_pad_token_counts_whatever_the_tokenizer_thinks(tokenizer_pad, model_pad):
    """A decoder reads its score at the last token that is not its own pad token."""
    tokenizer = tokenizer_for("gpt", eos_token="<eos>", pad_token=tokenizer_pad)
    scorer = SequenceClassifierScorer(reward_model(model_pad), tokenizer=tokenizer)
    with torch.no_grad():
        expected = [
            scorer.model(torch.tensor([tokenizer(f"{p} {c}")["input_ids"]])).logits.item()
            for p, c in zip(PROMPTS, COMPLETIONS, strict=True)
        ]
    np.testing.assert_allclose(scorer(PROMPTS, COMPLETIONS), expected, atol=1e-5)


def test_a_template_replaces_the_pair(reward_directory):
    pair = SequenceClassifierScorer(reward_directory)
    joined = SequenceClassifierScorer(reward_directory, template="{prompt} {completion}")
    alone = SequenceClassifierScorer(reward_directory, template="{completion}")
    assert joined(PROMPTS, COMPLETIONS) == pair(PROMPTS, COMPLETIONS)
    assert alone(PROMPTS, COMPLETIONS) == alone(PROMPTS[::-1], COMPLETIONS)
    assert alone(PROMPTS, COMPLETIONS) != pair(PROMPTS, COMPLETIONS)


def test_braces_in_a_text_are_only_text(reward_directory):
    scorer = SequenceClassifierScorer(reward_directory, template="{prompt} {completion}")
    assert np.isfinite(scorer(["{x} {"], ["{0} }"])).all()


def test_a_chat_template_is_used_when_asked_for():
    """It writes the special tokens itself, so that the tokenizer must not add them again."""
    tokenizer = tokenizer_for("bert", pad_token="[PAD]")
    tokenizer.chat_template = (
        "[CLS] {% for m in messages %}{{ 'w20' if m.role == 'user' else 'w21' }} {{ m.content }} "
        "{% endfor %}[SEP]"
    )
    chat = SequenceClassifierScorer(bert(1), tokenizer=tokenizer, template="chat")
    written_out = SequenceClassifierScorer(
        chat.model, tokenizer=tokenizer, template="w20 {prompt} w21 {completion}"
    )
    assert chat(PROMPTS, COMPLETIONS) == written_out(PROMPTS, COMPLETIONS)


@pytest.mark.parametrize(
    ("prompt", "completion", "kept_prompt", "kept_completion"),
    [
        ("w1 w2", "w3 w4", "w1 w2", "w3 w4"),
        ("w1 w2 w3 w4", "w5 w6", "w3 w4", "w5 w6"),
        ("w1 w2", "w3 w4 w5 w6", "", "w3 w4 w5 w6"),
        ("w1 w2", "w3 w4 w5 w6 w7 w8", "", "w5 w6 w7 w8"),
    ],
)
@pytest.mark.parametrize("kind", ["bert", "gpt"])
def test_what_does_not_fit_is_cut_from_the_left(
    kind, prompt, completion, kept_prompt, kept_completion
):
    """Four words fit: the completion stays, then as much of the prompt's end as there is room."""
    tokenizer = tokenizer_for(kind, pad_token="[PAD]")
    model = bert(labels=1) if kind == "bert" else reward_model()
    long = SequenceClassifierScorer(model, tokenizer=tokenizer)
    short = SequenceClassifierScorer(
        model, tokenizer=tokenizer, max_length=7 if kind == "bert" else 4
    )
    assert short([prompt], [completion]) == long([kept_prompt], [kept_completion])
    if kept_prompt != prompt:
        assert short([prompt], [completion]) != long([prompt], [completion])


def test_a_template_is_cut_from_the_left_too(reward_directory):
    template = "{prompt} {completion}"
    short = SequenceClassifierScorer(reward_directory, template=template, max_length=3)
    assert short(["w1 w2"], ["w3 w4"]) == short(["w9 w2"], ["w3 w4"])
    assert short(["w1 w2"], ["w3 w4"]) != short(["w1 w9"], ["w3 w4"])


def test_texts_longer_than_the_model_can_read_are_cut_without_being_told(reward_directory):
    scorer = SequenceClassifierScorer(reward_directory)
    assert scorer.max_length == 64
    assert np.isfinite(scorer(["w1 " * 100], ["w2 w3"])).all()


def test_the_model_is_in_evaluation_mode_and_no_gradient_is_kept():
    tokenizer = tokenizer_for("bert", pad_token="[PAD]")
    model = bert(labels=1, hidden_dropout_prob=0.5).train()
    scorer = SequenceClassifierScorer(model, tokenizer=tokenizer)
    assert scorer(PROMPTS, COMPLETIONS) == scorer(PROMPTS, COMPLETIONS)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_tokenizer_is_left_alone(reward_directory):
    tokenizer = tokenizer_for("gpt", eos_token="<eos>")
    before = (tokenizer.truncation_side, tokenizer.pad_token, len(tokenizer))
    scorer = SequenceClassifierScorer(reward_model(), tokenizer=tokenizer, max_length=3)
    scorer(PROMPTS, COMPLETIONS)
    assert (tokenizer.truncation_side, tokenizer.pad_token, len(tokenizer)) == before


def test_the_name_is_the_last_part_of_the_path(reward_directory):
    assert SequenceClassifierScorer(reward_directory).name == reward_directory.name
    assert SequenceClassifierScorer(reward_directory, name="judge").name == "judge"


def test_a_headless_checkpoint_is_refused(tmp_path):
    """Transformers would make up a random head and only warn."""
    bert().bert.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks \['classifier.bias'.*random"):
        SequenceClassifierScorer(tmp_path, label=0)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no directory .*nowhere'"):
        SequenceClassifierScorer(tmp_path / "nowhere")


def test_a_model_that_yields_nan_is_an_error_of_the_scorer(reward_directory):
    scorer = SequenceClassifierScorer(reward_directory, name="judge")
    scorer.model.score.weight.data.fill_(float("nan"))
    with pytest.raises(ScorerError, match="'judge' returned the score nan"):
        scorer.score(PROMPTS, COMPLETIONS)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"label": None}, ValueError, "label is None.*0: 'rude', 1: 'neutral', 2: 'polite'"),
        ({"label": "nice"}, ValueError, "label='nice' is not one of .*'polite'"),
        ({"label": 3}, ValueError, "label=3 is not one of"),
        ({"label": True}, ValueError, "label=True is not one of"),
        ({"output": "logits"}, ValueError, "output=.logits. must be one of"),
        ({"batch_size": 0}, ValueError, "batch_size=.* must be a .*number of at least 1"),
        ({"max_length": 0}, ValueError, "max_length=.* must be a .*number of at least 1"),
        ({"template": "{prompt}"}, ValueError, "template must be .*{completion}"),
        ({"template": "{completion} {answer}"}, ValueError, "template must be"),
        ({"template": "chat"}, ValueError, "has no chat template"),
    ],
)
def test_bad_options_are_refused(classifier_directory, options, error, message):
    with pytest.raises(error, match=message):
        SequenceClassifierScorer(classifier_directory, **{"label": 0, **options})


def test_a_loaded_model_needs_its_tokenizer():
    with pytest.raises(TypeError, match="tokenizer is None"):
        SequenceClassifierScorer(reward_model())


def test_it_composes_and_can_be_copied(reward_directory):
    scorer = SequenceClassifierScorer(reward_directory)
    total = copy.deepcopy(WeightedSum({"reward": (scorer, 2.0)}))
    np.testing.assert_allclose(
        total(PROMPTS, COMPLETIONS), 2 * np.array(scorer(PROMPTS, COMPLETIONS)), rtol=1e-6
    )
