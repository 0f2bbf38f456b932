"""Any model becomes a classifier with one output; its head, its pad token, shifts and scales."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from llm_gym.feedback.reward_model.backbone import (
    final_linear,
    load_backbone,
    scale_rewards,
    shift_rewards,
)
from llm_gym.testing.tiny import ARCHITECTURES
from tests.feedback.reward_model.worlds import save_bert, save_with_pad_as_eos

IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10], [11, 3, 12, 4]])
WITH_A_BIAS_SOMEWHERE = ["gpt2", "opt", "bloom", "gpt_neox"]


def rewards(model):
    with torch.no_grad():
        return model(IDS).logits[:, 0].clone()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_language_model_gets_one_output_above_the_same_trunk(architecture, tiny_dir):
    model, tokenizer = load_backbone(tiny_dir(architecture))
    assert rewards(model).shape == (3,)
    assert not model.training
    assert model.config.num_labels == 1
    assert model.config.pad_token_id == tokenizer.pad_token_id == 0
    saved = load_file(Path(tiny_dir(architecture)) / "model.safetensors")
    trunk = {name.partition(".")[2]: value for name, value in saved.items()}
    same = [
        torch.equal(value, trunk[name])
        for name, value in model.base_model.state_dict().items()
        if name in trunk
    ]
    assert all(same)
    assert len(same) > 10


def test_the_head_starts_as_stiennon_draws_it(tiny_dir):
    """Not a linear layer's default: N(0, 1 / (d + 1)), here for d = 32, over 40 seeds."""
    heads = [final_linear(load_backbone(tiny_dir(), seed=seed)[0]) for seed in range(40)]
    weights = torch.cat([head.weight.flatten() for head in heads])
    assert len(weights) == 40 * 32
    assert weights.std().item() == pytest.approx(1 / np.sqrt(33), rel=0.06)
    assert abs(weights.mean().item()) < 0.015
    again = final_linear(load_backbone(tiny_dir(), seed=7)[0])
    assert torch.equal(again.weight, heads[7].weight)
    assert not torch.equal(heads[7].weight, heads[8].weight)


def test_loading_leaves_the_global_generator_alone(tiny_dir):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_backbone(tiny_dir())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("with_head", [True, False])
def test_an_encoder_gets_a_new_head_with_bias_0(with_head, tmp_path):
    model, _ = load_backbone(save_bert(tmp_path, labels=3, with_head=with_head))
    head = final_linear(model)
    assert (head.out_features, head.bias.item()) == (1, 0.0)
    assert 0.1 < head.weight.std().item() < 0.25


def test_a_reward_model_keeps_its_head(tmp_path):
    path = save_bert(tmp_path, labels=1)
    saved = AutoModelForSequenceClassification.from_pretrained(path)
    model, _ = load_backbone(path, seed=3)
    assert torch.equal(final_linear(model).weight, final_linear(saved).weight)


@pytest.mark.parametrize("pad", ["<eos>", None])
def test_a_pad_token_that_may_close_a_text_is_replaced(pad, tmp_path):
    """Else a decoder's score would be read before the EOS that ends a text."""
    path = save_with_pad_as_eos(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["pad_token"] = pad
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    model, tokenizer = load_backbone(path)
    assert tokenizer.eos_token_id == 1
    assert tokenizer.pad_token_id == 32 == model.config.pad_token_id
    assert model.get_input_embeddings().num_embeddings == 33


def test_an_incomplete_checkpoint_is_refused(tiny_dir, tmp_path):
    shutil.copytree(tiny_dir(), tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights.pop("transformer.h.1.mlp.c_fc.weight")
    save_file(weights, tmp_path / "broken" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"is incomplete: 1 tensors .*h\.1\.mlp\.c_fc\.weight"):
        load_backbone(tmp_path / "broken")


def test_what_cannot_be_a_classifier_is_refused(tiny_dir, tmp_path):
    shutil.copytree(tiny_dir(), tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="cannot be loaded as a sequence classifier"):
        load_backbone(tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        load_backbone(tmp_path / "nowhere")


@pytest.mark.parametrize("architecture", WITH_A_BIAS_SOMEWHERE)
def test_rewards_are_shifted_exactly_where_a_layer_norm_has_a_bias(architecture, tiny_dir):
    model, _ = load_backbone(tiny_dir(architecture))
    before = rewards(model)
    assert shift_rewards(model, -2.5, lambda: rewards(model))
    torch.testing.assert_close(rewards(model), before - 2.5, atol=1e-4, rtol=0)


def test_rewards_are_shifted_in_the_bias_of_a_head(tmp_path):
    model, _ = load_backbone(save_bert(tmp_path))
    before = rewards(model)
    assert shift_rewards(model, 1.5, lambda: rewards(model))
    torch.testing.assert_close(rewards(model), before + 1.5)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2"])
def test_a_model_that_cannot_be_shifted_is_left_as_it_was(architecture, tiny_dir):
    model, _ = load_backbone(tiny_dir(architecture))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not shift_rewards(model, 1.5, lambda: rewards(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_norm_that_the_head_does_not_read_is_left_as_it_was(tiny_dir):
    """As if the head read something else: the attempt is undone."""
    model, _ = load_backbone(tiny_dir())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not shift_rewards(model, 1.5, lambda: torch.zeros(3))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_rewards_are_scaled(kind, tiny_dir, tmp_path):
    model, _ = load_backbone(save_bert(tmp_path) if kind == "bert" else tiny_dir(kind))
    if kind == "bert":
        shift_rewards(model, 1.0, lambda: rewards(model))
    before = rewards(model)
    scale_rewards(model, -3.0)
    torch.testing.assert_close(rewards(model), -3 * before)
