"""Reward models as adapters: head and adapter are saved together, and PEFT opens them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from llm_gym.feedback.reward_model import (
    RewardModelConfig,
    RewardModelScorer,
    train_rating_model,
    train_reward_model,
)
from llm_gym.feedback.reward_model.pooled import load_trunk
from llm_gym.feedback.reward_model.ratings import RatingModelConfig
from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.adapters import adapter_of, add_adapter, lora_config, merge
from llm_gym.scorers import SequenceClassifierScorer
from tests.feedback.reward_model.test_comparisons import HELD_OUT, TRAIN, texts
from tests.feedback.reward_model.worlds import save_bert, save_with_pad_as_eos
from tests.scorers.tiny_classifiers import save_classifier
from tests.supervised.test_lora import digests

LORA = RewardModelConfig(head="finetune", learning_rate=1e-2, epochs=3, batch_size=8, lora_rank=4)
FURTHER = replace(LORA, lora_rank=0, epochs=1)


def rewards(directory):
    return np.asarray(RewardModelScorer(directory)(*texts(HELD_OUT[:12])))


def learnt(directory):
    return load_file(directory / "adapter_model.safetensors")


@pytest.fixture(params=["gpt2", "llama", "bert", "masked-bert", "no-pad"])
def start(request, tiny_dir, tmp_path):
    """A model to start from."""
    if request.param in ("gpt2", "llama"):
        return tiny_dir(request.param)
    if request.param == "no-pad":
        save_with_pad_as_eos(tmp_path / "start")
    else:
        save_bert(tmp_path / "start", with_head=request.param == "bert")
    return str(tmp_path / "start")


@pytest.mark.filterwarnings("error::llm_gym.language_models.adapter_loading.OtherBaseWarning")
def test_it_learns_and_opens_in_peft(start, tmp_path, capsys):
    before = digests(start)
    output = tmp_path / "reward"
    metrics = train_reward_model(TRAIN, output, replace(LORA, model=start), held_out=HELD_OUT)
    assert "a LoRA adapter of rank 4 is trained" in capsys.readouterr().out
    assert digests(start) == before
    assert metrics["held_out"]["accuracy"]["value"] > 0.75
    saved = learnt(output)
    assert any("score" in name or "classifier" in name for name in saved)
    assert all("lora_" in name or "embed" not in name for name in saved)
    assert not (output / "config.json").exists()

    expected = rewards(output)
    assert np.ptp(expected) > 0.1
    tokenizer = AutoTokenizer.from_pretrained(output)
    plain = AutoModelForSequenceClassification.from_pretrained(
        start, num_labels=1, ignore_mismatched_sizes=True
    )
    plain.resize_token_embeddings(max(len(tokenizer), plain.config.vocab_size))
    theirs = PeftModel.from_pretrained(plain, str(output)).eval()
    scorer = RewardModelScorer(output)
    for value, row in zip(expected, scorer.encode(*texts(HELD_OUT[:12])), strict=True):
        inputs = {name: torch.tensor([ids]) for name, ids in row.items()}
        with torch.no_grad():
            assert theirs(**inputs).logits.item() == pytest.approx(value, abs=1e-5)
    record = scorer.template
    again = SequenceClassifierScorer(output, template=record)(*texts(HELD_OUT[:12]))
    np.testing.assert_array_equal(again, expected)

    merge(output, tmp_path / "merged")
    np.testing.assert_allclose(rewards(tmp_path / "merged"), expected, atol=1e-5)
    assert (tmp_path / "merged" / "config.json").exists()


def save_adapter(base, directory, std):
    """An adapter of a language model that does something; the model with it."""
    model = load_causal_lm(base)
    add_adapter(model, lora_config({"r": 3}, model), seed=0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=std, generator=torch.manual_seed(2))
    adapter_of(model).save(directory)
    load_tokenizer(base).save_pretrained(directory)
    return model


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_adapter_of_a_language_model_becomes_one_of_a_reward_model(
    architecture, tiny_dir, tmp_path
):
    base = tiny_dir(architecture)
    save_adapter(base, tmp_path / "sft", std=0.1)
    still = replace(FURTHER, learning_rate=1e-12, weight_decay=0.0)
    for name, config in (("reward", FURTHER), ("still", still)):
        config = replace(config, model=str(tmp_path / "sft"))
        train_reward_model(TRAIN[:40], tmp_path / name, config, held_out=HELD_OUT, quiet=True)
    first, still = learnt(tmp_path / "sft"), learnt(tmp_path / "still")
    assert still.keys() - first.keys() == {"base_model.model.score.weight"}
    assert all(torch.allclose(still[name], first[name], atol=1e-6) for name in first)
    one, other = (
        json.loads((tmp_path / name / "adapter_config.json").read_text())
        for name in ("sft", "reward")
    )
    assert other["base_model_name_or_path"] == one["base_model_name_or_path"]
    assert (other["r"], other["task_type"], other["modules_to_save"]) == (3, "SEQ_CLS", ["score"])

    config = replace(FURTHER, model=str(tmp_path / "reward"), learning_rate=1e-12)
    train_reward_model(TRAIN[:40], tmp_path / "further", config, held_out=HELD_OUT, quiet=True)
    expected = rewards(tmp_path / "reward")
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(rewards(tmp_path / "further"), expected, atol=1e-5)
    with pytest.raises(ValueError, match="of a classifier, which scores texts and writes none"):
        load_causal_lm(tmp_path / "reward")
    with pytest.raises(ValueError, match="is an adapter of a language model: it has no head"):
        RewardModelScorer(tmp_path / "sft")


def test_ratings_train_an_adapter_too(tiny_dir, tmp_path):
    rows = [row.chosen for row in TRAIN] + [row.rejected for row in TRAIN]
    truth = [float(text.split().count("w1")) for text in rows]
    config = RatingModelConfig(
        head="finetune",
        model=tiny_dir("gpt2"),
        learning_rate=1e-2,
        epochs=2,
        batch_size=16,
        lora_rank=4,
    )
    metrics = train_rating_model(rows, truth, tmp_path / "ratings", config, quiet=True)
    assert all("lora_" in name or "score" in name for name in learnt(tmp_path / "ratings"))
    scorer = RewardModelScorer(tmp_path / "ratings")
    assert np.isfinite(scorer([""], rows[:1])[0] + metrics["offset"])


def test_a_classifier_that_peft_saved_scores(tmp_path):
    save_classifier(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    theirs = get_peft_model(base, LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5, generator=torch.manual_seed(len(name)))
    theirs.save_pretrained(tmp_path / "adapter")
    scorer = SequenceClassifierScorer(tmp_path / "adapter", label="polite", output="logit")
    assert scorer.name == "adapter"
    row = scorer._encode("w1 w2", "w3")
    inputs = {name: torch.tensor([ids]) for name, ids in row.items()}
    with torch.no_grad():
        expected = theirs.eval()(**inputs).logits[0, 2].item()
    assert scorer(["w1 w2"], ["w3"])[0] == pytest.approx(expected, abs=1e-6)


def test_a_base_is_not_replaced_by_its_reward_model(tiny_dir, tmp_path):
    config = replace(LORA, epochs=1, lora_rank=0, model=tiny_dir("gpt2"))
    train_reward_model(TRAIN, tmp_path / "reward", config, held_out=HELD_OUT, quiet=True)
    config = replace(config, lora_rank=2, model=str(tmp_path / "reward"))
    with pytest.raises(ValueError, match="holds the base model, which the adapter needs"):
        train_reward_model(TRAIN, tmp_path / "reward", config, held_out=HELD_OUT, quiet=True)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_frozen_head_reads_base_and_adapter(architecture, tiny_dir, tmp_path):
    base = tiny_dir(architecture)
    model = save_adapter(base, tmp_path / "sft", std=0.2)
    trunk, _ = load_trunk(tmp_path / "sft")
    assert all(parameter.requires_grad for parameter in trunk.parameters())
    ids = torch.arange(3, 9)[None]
    with torch.no_grad():
        expected = model(ids, output_hidden_states=True).hidden_states[-1]
        found = trunk(ids).last_hidden_state
        other = load_trunk(base)[0](ids).last_hidden_state
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, other, atol=1e-2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_rank": 4}, "lora_rank=4 is for gradient steps.*--head finetune"),
        ({"head": "finetune", "lora_rank": 4, "pooling": "mean"}, "pooling='mean' is of a head"),
        ({"head": "finetune", "lora_alpha": 4}, "give lora_rank, too"),
    ],
)
def test_settings_that_train_no_adapter(settings, message):
    with pytest.raises(ValueError, match=message):
        RewardModelConfig(**settings)
