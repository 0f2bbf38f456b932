"""A LoRA layer that works in place gives what PEFT's gives, to the bit."""

from __future__ import annotations

import copy

import pytest
import torch
from peft.tuners.lora.layer import Linear
from torch.utils._python_dispatch import TorchDispatchMode

from llm_gym.language_models import load_causal_lm
from llm_gym.language_models.adapter_layers import InPlaceLinear
from llm_gym.language_models.adapters import add_adapter, lora_config

IDS = torch.arange(12).view(2, 6)


@pytest.fixture
def adapted(tiny_dir):
    def make(architecture, dtype="float32", **settings):
        model = load_causal_lm(tiny_dir(architecture), dtype=dtype)
        config = lora_config({"r": 2, "lora_alpha": 3, **settings}, model)
        add_adapter(model, config, seed=0)
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        return model

    return make


def pefts(model):
    """A copy that computes as PEFT does."""
    theirs = copy.deepcopy(model)
    for module in theirs.modules():
        if type(module) is InPlaceLinear:
            module.__class__ = Linear
    return theirs


def computed(model):
    logits = model(input_ids=IDS).logits
    logits.float().logsumexp(-1).sum().backward()
    return [logits, *(p.grad for p in model.parameters() if p.grad is not None)]


def layers(model):
    return [module for module in model.modules() if isinstance(module, Linear)]


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("dtype", "settings"),
    [("float32", {}), ("bfloat16", {}), ("float32", {"use_dora": True})],
)
def test_logits_and_gradients_are_pefts_to_the_bit(adapted, architecture, dtype, settings):
    model = adapted(architecture, dtype, **settings)
    assert {type(layer) for layer in layers(model)} == {InPlaceLinear}
    mine, theirs = computed(model), computed(pefts(model))
    assert len(mine) == len(theirs) == 1 + 2 * len(layers(model)) * (1 + bool(settings) / 2)
    assert all(map(torch.equal, mine, theirs))


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


def test_nothing_of_the_outputs_size_is_made_but_what_is_added(adapted):
    layer = layers(adapted("llama"))[0]
    with Operations() as here:
        layer(torch.ones(1, 3, layer.in_features))
    assert {"aten.add_.Tensor", "aten.mul_.Tensor"} <= here.seen
    assert not {"aten.add.Tensor", "aten.mul.Tensor"} & here.seen


def test_what_a_hook_has_seen_stays_what_it_was(adapted):
    layer, seen = layers(adapted("llama"))[0], []
    x = torch.ones(1, 3, layer.in_features)
    expected = layer(x)
    layer.base_layer.register_forward_hook(lambda *call: seen.append(call[-1]))
    assert torch.equal(layer(x), expected)
    assert torch.equal(seen[0], layer.base_layer(x))
    assert not torch.equal(seen[0], expected)


@pytest.mark.parametrize("switch", ["merge", "disable"])
def test_pefts_switches_are_heeded(adapted, switch):
    model = adapted("gpt2")
    layer = layers(model)[0]
    x = torch.ones(1, 3, layer.in_features)
    expected = layer(x) if switch == "merge" else layer.base_layer(x)
    layer.merge() if switch == "merge" else layer.enable_adapters(False)
    torch.testing.assert_close(layer(x), expected)
