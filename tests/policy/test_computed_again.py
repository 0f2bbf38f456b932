"""What follows from what is kept is computed again: gradients are the same to the bit."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from llm_gym.language_models.architecture import decoder_of
from llm_gym.policy import EpisodeBatch, computed_again
from llm_gym.policy.trunk import Trunk

from .conftest import VOCABULARY

LORA = {"r": 2, "lora_alpha": 8, "target_modules": "all-linear"}


class Gated(nn.Module):
    """A normalisation and a gated MLP, as a layer of its own."""

    def __init__(self, activation=F.silu):
        super().__init__()
        self.activation = activation
        self.gate, self.up, self.down = (nn.Linear(8, 8, bias=b) for b in (False, True, True))
        self.weight = nn.Parameter(torch.ones(8), requires_grad=False)

    def forward(self, x):
        normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        x = self.weight * normed
        product = self.activation(self.gate(x)) * self.up(x)
        self.product = weakref.ref(product)
        return self.down(product)


def gradients(layer, *, again, times=1):
    """Of a layer's weights and of what went in, and whether the product was kept."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, requires_grad=True)
    with computed_again.computed_again([layer] if again else []):
        loss = layer(x).square().sum()
    kept = layer.product() is not None
    wanted = [x, *[p for p in layer.parameters() if p.requires_grad]]
    for _ in range(times):
        found = torch.autograd.grad(loss, wanted, retain_graph=True)
    return found, kept


@pytest.mark.parametrize(
    "activation",
    [F.silu, F.gelu, lambda x: F.gelu(x, approximate="tanh")],
    ids=["silu", "gelu", "gelu by tanh"],
)
def test_a_product_is_not_kept_and_gradients_are_the_same(activation):
    torch.manual_seed(1)
    layer = Gated(activation)
    expected, kept = gradients(layer, again=False)
    assert kept
    for times in (1, 2):
        found, kept = gradients(layer, again=True, times=times)
        assert not kept
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert "forward" not in vars(layer)


def test_what_does_not_follow_is_kept():
    layer = Gated()
    layer.up.requires_grad_(False)  # the product follows from its factors, one of which
    layer.up.forward = torch.ones_like  # is a constant now: the other is not kept, nor what made it
    layer.activation = torch.exp
    layer.gate.weight.requires_grad_(False)
    expected, kept = gradients(layer, again=False)
    assert kept
    found, kept = gradients(layer, again=True)
    assert kept
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_somebody_elses_hooks_stay():
    layer = Gated()
    expected, _ = gradients(layer, again=False)
    unpacked = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: t, lambda t: (unpacked.append(t.shape), t)[1]
    ):
        found, kept = gradients(layer, again=True)
    assert kept
    assert unpacked
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("rows", [1, 2])
def test_keys_and_values_of_a_group_of_heads_are_kept_once(rows):
    class Attention(nn.Module):
        def forward(self, x):
            wide = x[:, :, None].expand(rows, 2, 3, 5, 4).reshape(rows, 6, 5, 4)
            self.keys = weakref.ref(wide)
            return F.scaled_dot_product_attention(x.repeat(1, 3, 1, 1), wide, wide, is_causal=True)

    def learnt(layers):
        x = torch.randn(rows, 2, 5, 4, generator=torch.manual_seed(0)).requires_grad_()
        with computed_again.computed_again(layers):
            loss = layer(x).square().sum()
        kept = layer.keys() is not None
        return torch.autograd.grad(loss, x)[0], kept

    layer = Attention()
    expected, kept = learnt([])
    assert kept
    found, kept = learnt([layer])
    assert not kept
    assert torch.equal(found, expected)


def test_a_forward_of_its_own_is_put_back():
    def mid_way():
        with computed_again.computed_again([layer]):
            assert vars(layer)["forward"] is not own
            raise RuntimeError("mid-way")

    layer = Gated()
    own = vars(layer)["forward"] = layer.forward
    with pytest.raises(RuntimeError, match="mid-way"):
        mid_way()
    assert vars(layer)["forward"] is own


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_policy_learns_the_same(make_policy, monkeypatch, architecture, packed):
    pytest.importorskip("peft")
    lengths = torch.tensor([20, 3, 19, 4] if packed else [20, 20, 20, 20])
    ids = torch.randint(VOCABULARY, (4, 20), generator=torch.manual_seed(0))
    batch = EpisodeBatch(ids, torch.arange(4), lengths - 1)
    seen = []
    real = computed_again._replace
    monkeypatch.setattr(computed_again, "_replace", lambda *args: (seen.append(1), real(*args)))

    def learnt(large):
        monkeypatch.setattr(computed_again, "LARGE_BYTES", large)
        policy = make_policy(architecture, lora=LORA)
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:  # zero, so that nothing else had a gradient
                nn.init.normal_(parameter, generator=torch.manual_seed(2))
        values, log_prob, entropy = policy.evaluate_actions(batch, batch.actions)
        (values.sum() + log_prob.sum() - 0.1 * entropy.sum()).backward()
        return [p.grad for p in policy.parameters() if p.grad is not None]

    expected = learnt(2**40)
    assert not seen
    found = learnt(0)
    assert seen
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_only_large_frozen_layers_that_learn(tiny_dir, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(tiny_dir("llama"))
    trunk = Trunk(decoder_of(model))
    assert not computed_again.worth_it(trunk._watch)  # weights are learnt
    model.requires_grad_(False)
    assert not computed_again.worth_it(trunk._watch)  # and small
    size = sum(p.nbytes for p in decoder_of(model).parameters())
    monkeypatch.setattr(computed_again, "LARGE_BYTES", size)
    assert computed_again.worth_it(trunk._watch) == list(decoder_of(model).layers)
    monkeypatch.setattr(computed_again, "LARGE_BYTES", 2 * size)
    assert not computed_again.worth_it(trunk._watch)
