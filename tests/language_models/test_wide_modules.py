"""Whole modules that are trained beside an adapter are trained in float32, whatever the base is."""

from __future__ import annotations

import copy

import pytest
import torch

from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.adapters import (
    adapter_of,
    add_adapter,
    frozen_twin,
    lora_config,
    merge,
    without_adapter,
)
from tests.learning.online_worlds import make, small_env

IDS = torch.arange(8)[None]

CASES = [
    ("llama", {"tie_word_embeddings": False}, ["lm_head"]),
    ("llama", {"tie_word_embeddings": False}, ["embed_tokens", "lm_head"]),
    ("llama", {}, ["q_proj", "norm"]),
    ("llama", {}, ["mlp"]),
    ("llama", {}, ["self_attn"]),
    ("gpt2", {}, ["wte"]),
    ("gpt2", {}, ["ln_f", "ln_1"]),
]


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def adapted(directory, modules, dtype="bfloat16"):
    model = load_causal_lm(directory, dtype=dtype)
    targets = ["c_fc"] if model.config.model_type == "gpt2" else ["k_proj", "o_proj"]
    targets = [t for t in targets if "self_attn" not in modules] or ["up_proj"]
    settings = {"r": 2, "target_modules": targets, "modules_to_save": modules}
    add_adapter(model, lora_config(settings, model), seed=0)
    return model


@pytest.mark.parametrize(("architecture", "config", "modules"), CASES)
def test_small_steps_are_not_lost(architecture, config, modules, tiny_dir, tmp_path):
    dtype = "bfloat16"
    model = adapted(tiny_dir(architecture, **config), modules, dtype)
    whole = load_causal_lm(tiny_dir(architecture, **config))
    assert (logits(model).float() - logits(whole)).abs().max() < 0.3  # it computes what it did
    learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in learnt.values()} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {getattr(torch, dtype)}
    before = copy.deepcopy(learnt)
    optimizer = torch.optim.SGD(learnt.values(), lr=1e-6)
    model(IDS).logits.float().log_softmax(-1)[..., 0].sum().backward()
    optimizer.step()
    moved = [name for name in learnt if not torch.equal(before[name], learnt[name])]
    assert {name for name in learnt if "modules_to_save" in name} <= set(moved)
    learnt_logits = logits(model)
    adapter_of(model).save(tmp_path / "adapter")
    assert torch.equal(logits(load_causal_lm(tmp_path / "adapter", dtype=dtype)), learnt_logits)
    base = without_adapter(frozen_twin(model))
    assert torch.equal(logits(base), logits(load_causal_lm(base.name_or_path, dtype=dtype)))


def test_what_is_merged_has_the_type_of_the_base(tiny_dir, tmp_path):
    directory = tiny_dir("llama", tie_word_embeddings=False)
    load_causal_lm(directory, dtype="bfloat16").save_pretrained(tmp_path / "base")
    load_tokenizer(directory).save_pretrained(tmp_path / "base")
    model = adapted(str(tmp_path / "base"), ["lm_head"])
    head = model.get_output_embeddings().modules_to_save["default"]
    with torch.no_grad():
        head.weight += torch.randn(head.weight.shape, generator=torch.manual_seed(0))
    adapter_of(model).save(tmp_path / "adapter")
    merge(tmp_path / "adapter", tmp_path / "merged")
    merged = load_causal_lm(tmp_path / "merged", dtype="auto")
    assert {p.dtype for p in merged.parameters()} == {torch.bfloat16}
    assert (logits(merged).float() - logits(model)).abs().max() < 0.2


def test_a_policy_learns_with_them(tiny_dir):
    base = tiny_dir("gpt2", vocab_size=12, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    options = {"dtype": "bfloat16", "lora": {"r": 2, "modules_to_save": ["wte"]}}
    algorithm = make("PPO", base, small_env(base), kl_coef=0.1, policy_kwargs=options)
    before = {name: p.clone() for name, p in algorithm.policy.named_parameters()}
    algorithm.learn(1)
    after = dict(algorithm.policy.named_parameters())
    assert not torch.equal(*(each["model.transformer.wte.modules_to_save.default.weight"]
                             for each in (before, after)))  # fmt: skip
    assert all(p.dtype == torch.float32 for p in after.values() if p.requires_grad)
