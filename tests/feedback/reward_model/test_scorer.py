"""A trained reward model as a scorer: the recorded template, and the right tokenizer."""

from __future__ import annotations

import numpy as np
import pytest

from llm_gym.feedback.reward_model import RewardModelScorer
from llm_gym.feedback.reward_model.backbone import load_backbone
from llm_gym.feedback.reward_model.fitting import save, scorer_for
from llm_gym.feedback.reward_model.scorer import tokenizer_fingerprint
from llm_gym.language_models import load_tokenizer
from llm_gym.scorers import SequenceClassifierScorer
from llm_gym.testing.tiny import tiny_tokenizer
from tests.feedback.reward_model.worlds import save_bert, save_with_pad_as_eos

PROMPTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9", "w1"]
ANSWERS = ["w10", "w11 w12 w13 w14", "w15 w16", "w17 w18 w19"]


@pytest.fixture
def saved(tiny_dir, tmp_path):
    """Saves an untrained reward model; returns its directory and its scorer."""

    def make(source, template="auto", max_length=None):
        scorer = scorer_for(*load_backbone(source), template, max_length)
        save(scorer, tmp_path / "reward", "float32", {})
        return tmp_path / "reward", scorer

    return make


@pytest.mark.parametrize("template", [None, "{completion}", "w3 {prompt} w4 {completion}", "chat"])
@pytest.mark.parametrize("kind", ["gpt2", "bert", "pad is eos"])
def test_the_template_goes_where_the_model_goes(kind, template, saved, tiny_dir, tmp_path):
    if template == "chat" and kind != "pad is eos":
        pytest.skip("this tokenizer has no chat template")
    makers = {"bert": save_bert, "pad is eos": save_with_pad_as_eos}
    source = makers[kind](tmp_path / "source") if kind in makers else tiny_dir(kind)
    directory, scorer = saved(source, template)
    expected = scorer(PROMPTS, ANSWERS)
    assert len(set(np.round(expected, 4))) == 4
    loaded = RewardModelScorer(directory)
    assert loaded.template == template
    np.testing.assert_allclose(loaded(PROMPTS, ANSWERS), expected, atol=1e-6)
    plain = SequenceClassifierScorer(directory, template=template)
    np.testing.assert_allclose(plain(PROMPTS, ANSWERS), expected, atol=1e-6)


def test_auto_is_the_chat_template_if_there_is_one(saved, tiny_dir, tmp_path):
    assert saved(save_with_pad_as_eos(tmp_path / "chat"))[1].template == "chat"
    assert saved(tiny_dir())[1].template is None


def test_encoding_all_at_once_is_encoding_one_by_one(saved, tiny_dir):
    _, scorer = saved(tiny_dir(), "w3 {prompt} w4 {completion}", max_length=7)
    one_by_one = [scorer._encode(*pair) for pair in zip(PROMPTS, ANSWERS, strict=True)]
    assert scorer.encode(PROMPTS, ANSWERS) == one_by_one
    assert max(len(row["input_ids"]) for row in one_by_one) == 7
    assert scorer.encode([], []) == []


@pytest.mark.parametrize("template", [None, "{prompt} {completion}"])
def test_every_loader_cuts_at_the_length_of_training(template, saved, tiny_dir):
    directory, scorer = saved(tiny_dir(), template, max_length=4)
    expected = scorer(PROMPTS, ANSWERS)
    assert expected != RewardModelScorer(directory, max_length=60)(PROMPTS, ANSWERS)
    assert RewardModelScorer(directory)(PROMPTS, ANSWERS) == expected
    assert SequenceClassifierScorer(directory, template=template)(PROMPTS, ANSWERS) == expected


def test_another_tokenizer_is_refused(saved, tiny_dir):
    directory, scorer = saved(tiny_dir())
    with pytest.raises(ValueError, match=r"the tokenizer \(28 tokens\) is not .* \(32 tokens\)"):
        RewardModelScorer(directory, tokenizer=tiny_tokenizer(25))
    right = RewardModelScorer(directory, tokenizer=load_tokenizer(directory))
    assert right(PROMPTS, ANSWERS) == scorer(PROMPTS, ANSWERS)


def test_a_tokenizer_replaced_in_the_directory_is_refused(saved, tiny_dir):
    directory, _ = saved(tiny_dir())
    tiny_tokenizer(25).save_pretrained(directory)
    with pytest.raises(ValueError, match="is not the one that the reward model"):
        RewardModelScorer(directory)


def test_tokenizers_of_one_vocabulary_may_read_differently():
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer, splitting, again = tiny_tokenizer(), tiny_tokenizer(), tiny_tokenizer()
    splitting.backend_tokenizer.pre_tokenizer = Whitespace()
    assert tokenizer.get_vocab() == splitting.get_vocab()
    assert tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(splitting)
    assert tokenizer_fingerprint(tokenizer) == tokenizer_fingerprint(again)


def test_a_foreign_reward_model_needs_a_template(tmp_path):
    path = save_bert(tmp_path, labels=1)
    with pytest.raises(ValueError, match="does not say how it reads prompt and answer"):
        RewardModelScorer(path)
    expected = SequenceClassifierScorer(path)(PROMPTS, ANSWERS)
    assert RewardModelScorer(path, template=None)(PROMPTS, ANSWERS) == expected


def test_a_template_that_is_none_is_refused(tiny_dir):
    with pytest.raises(ValueError, match=r"template must be None, 'chat' or a format string"):
        scorer_for(*load_backbone(tiny_dir()), "{prompt}", None)
    with pytest.raises(ValueError, match="the tokenizer has no chat template"):
        scorer_for(*load_backbone(tiny_dir()), "chat", None)
