"""Reward models in bfloat16: what is trained, what is read as it was, and what does not fit."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from llm_gym.cli import main
from llm_gym.feedback.preferences.files import write_preferences
from llm_gym.feedback.reward_model import (
    RewardModelConfig,
    RewardModelScorer,
    differences_of,
    train_rating_model,
    train_reward_model,
)
from llm_gym.feedback.reward_model.backbone import final_linear, load_backbone
from llm_gym.feedback.reward_model.ratings import RatingModelConfig
from llm_gym.language_models import memory
from llm_gym.language_models.classifier_adapters import load_classifier
from llm_gym.language_models.trained_types import PrecisionWarning
from llm_gym.scorers import SequenceClassifierScorer
from tests.feedback.reward_model.test_comparisons import HELD_OUT, TRAIN
from tests.feedback.reward_model.worlds import save_bert, texts_and_ratings

COARSE = RewardModelConfig(
    head="finetune", learning_rate=1e-2, epochs=2, batch_size=8, dtype="bfloat16"
)


@pytest.fixture(params=["gpt2", "llama", "bert"])
def start(request, tiny_dir, tmp_path):
    """A model to start from."""
    if request.param == "bert":
        save_bert(tmp_path / "start", with_head=False)
        return str(tmp_path / "start")
    return tiny_dir(request.param)


def trunk_types(model):
    return {p.dtype for name, p in model.base_model.named_parameters() if "pooler" not in name}


def test_head_and_pooler_stay_in_float32_and_so_do_rewards(start):
    model, _ = load_backbone(start, dtype="bfloat16")
    assert trunk_types(model) == {torch.bfloat16}
    heads = [p for name, p in model.named_parameters() if "pooler" in name or "base" not in name]
    assert final_linear(model).weight.dtype == torch.float32
    logits = model(input_ids=torch.tensor([[4, 5, 6]])).logits
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert all(p.grad is None or p.grad.dtype == p.dtype for p in heads)
    assert final_linear(model).weight.grad.abs().sum() > 0
    wide, _ = load_backbone(start)
    assert torch.allclose(logits, wide(input_ids=torch.tensor([[4, 5, 6]])).logits, atol=0.2)


def test_all_weights_learn_in_bfloat16_and_are_measured_as_they_are_stored(start, tmp_path):
    with pytest.warns(PrecisionWarning, match="256th of a weight"):
        metrics = train_reward_model(
            TRAIN, tmp_path / "r", replace(COARSE, model=start), held_out=HELD_OUT, quiet=True
        )
    assert metrics["held_out"]["accuracy"]["value"] > 0.9
    scorer = RewardModelScorer(tmp_path / "r")
    assert {p.dtype for p in scorer.model.parameters()} == {torch.float32}
    right = float((differences_of(scorer, HELD_OUT) > 0).mean())
    assert right == metrics["held_out"]["accuracy"]["value"]


@pytest.mark.parametrize("kind", ["encoder", "adapter"])
def test_what_is_not_trained_is_read_in_the_type_that_it_had(start, tmp_path, kind):
    config = replace(COARSE, model=start, lora_rank=4)
    if kind != "adapter":
        config = RewardModelConfig(model=start, head=kind, hidden_layers="1-2", dtype="bfloat16")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        metrics = train_reward_model(TRAIN, tmp_path / "r", config, held_out=HELD_OUT, quiet=True)
    scorer = RewardModelScorer(tmp_path / "r")
    own = {p.dtype for name, p in scorer.model.named_parameters() if ".lora_" not in name}
    assert torch.bfloat16 in own
    assert final_linear(scorer.model).weight.dtype == torch.float32
    margins = differences_of(scorer, HELD_OUT)
    assert float((margins > 0).mean()) == metrics["held_out"]["accuracy"]["value"]
    # The question of the type decides: read wider, the rewards are others.
    wider = RewardModelScorer(tmp_path / "r", dtype="float32")
    assert trunk_types(wider.model) == {torch.float32}
    assert not np.array_equal(differences_of(wider, HELD_OUT), margins)


def test_a_type_that_there_is_not_is_refused_with_its_place(tiny_dir, tmp_path):
    config = RewardModelConfig(model=tiny_dir(), dtype="bfloat16")
    train_reward_model(TRAIN, tmp_path / "r", config, held_out=HELD_OUT, quiet=True)
    path = tmp_path / "r" / "config.json"
    content = json.loads(path.read_text())
    assert content["llm_gym_reward_model"]["dtype"] == "bfloat16"
    content["llm_gym_reward_model"]["dtype"] = "int8"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"config.json: llm_gym_reward_model.dtype .*'int8'"):
        RewardModelScorer(tmp_path / "r")


def test_ratings_are_learnt_in_bfloat16_and_come_out_in_the_raters_units(tiny_dir, tmp_path):
    texts, ratings = texts_and_ratings()
    config = RatingModelConfig(
        model=tiny_dir(), head="finetune", learning_rate=1e-2, epochs=3, dtype="bfloat16"
    )
    with pytest.warns(PrecisionWarning):
        metrics = train_rating_model(texts, ratings, tmp_path / "r", config, quiet=True)
    assert metrics["offset"] == 0  # GPT-2's last norm has a bias for it
    assert metrics["held_out"]["spearman"]["value"] > 0.7
    rewards = RewardModelScorer(tmp_path / "r").rewards([""] * len(texts), texts)
    assert rewards.mean() == pytest.approx(np.mean(ratings), abs=1)


def test_the_command_has_it(tiny_dir, tmp_path, capsys):
    write_preferences(tmp_path / "votes.jsonl", TRAIN)
    line = ["reward-model", str(tmp_path / "votes.jsonl"), "--model", tiny_dir()]
    with pytest.raises(SystemExit) as ended:
        main([*line, "--dtype", "bfloat16", "--output", str(tmp_path / "out")])
    assert not ended.value.code
    scorer = RewardModelScorer(tmp_path / "out" / "model")
    assert trunk_types(scorer.model) == {torch.bfloat16}
    with pytest.raises(SystemExit):
        main([*line, "--dtype", "float16", "--output", str(tmp_path / "other")])
    assert "weights in float16 cannot be trained" in capsys.readouterr().err


def test_what_does_not_fit_into_memory_is_refused_before_it_is_loaded(start, tmp_path, monkeypatch):
    numbers = sum(memory.stored_numbers(start).values())

    def free(count):
        monkeypatch.setattr(memory, "free_memory", lambda device="cpu": count)

    free(numbers)
    config = RewardModelConfig(model=start)
    with pytest.raises(ValueError, match=r"training .* needs at least .*gradients"):
        train_reward_model(TRAIN, tmp_path / "r", replace(COARSE, model=start), quiet=True)
    for head in ({}, {"head": "finetune", "lora_rank": 2}):
        with pytest.raises(ValueError, match=r"needs at least .*weights in bfloat16"):
            train_reward_model(
                TRAIN, tmp_path / "r", replace(config, dtype="bfloat16", **head), quiet=True
            )
    free(None)
    adapter = replace(COARSE, model=start, lora_rank=2, epochs=1)
    train_reward_model(TRAIN[:20], tmp_path / "r", adapter, held_out=HELD_OUT, quiet=True)
    free(numbers)
    for load in (RewardModelScorer, load_classifier):
        with pytest.raises(ValueError, match=r"needs at least .*weights in bfloat16"):
            load(tmp_path / "r", dtype="bfloat16")
    with pytest.raises(ValueError, match=r"needs at least .*weights in float64"):
        SequenceClassifierScorer(start, dtype="float64")
