"""Packed weights give what the weights give, and only where they may stand in for them."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from llm_gym.policy import packed_weights as module
from llm_gym.policy.packed_weights import packed_weights
from llm_gym.testing.tiny import tiny_model

IDS = torch.tensor([[3, 4, 5, 6], [8, 9, 10, 11]])

pytestmark = pytest.mark.skipif(not module._has_products(), reason="PyTorch without oneDNN")


@pytest.fixture(autouse=True)
def any_size_is_large(monkeypatch):
    monkeypatch.setattr(module, "LARGE_BYTES", 0)
    monkeypatch.setattr(module, "SMALL_BYTES", 0)


def block(model, n_rows=2, n_steps=module.MANY_STEPS):
    return packed_weights(model, n_rows, n_steps)


def with_a_large_head() -> nn.Module:
    model = tiny_model("llama")
    model.lm_head = nn.Linear(model.config.hidden_size, 4 * model.config.vocab_size, bias=False)
    return model


def packed(model) -> int:
    """How many of its layers multiply packed weights."""
    return sum("forward" in vars(layer) for layer in model.modules())


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(input_ids=IDS).logits


def gradients(model) -> list[torch.Tensor]:
    model.zero_grad()
    model(input_ids=IDS).logits.log_softmax(-1)[..., 3].sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("architecture", ["llama", "opt", "gpt_neox"])  # two of them with biases
def test_what_packed_weights_give_is_the_same(architecture):
    model = tiny_model(architecture)
    plain = logits(model)
    n_layers = sum(type(layer) is nn.Linear for layer in model.modules())
    with block(model):
        assert packed(model) == n_layers > 4
        torch.testing.assert_close(logits(model), plain, atol=1e-5, rtol=1e-5)
    assert packed(model) == 0
    assert torch.equal(logits(model), plain)


def test_products_are_of_the_packed_weights(monkeypatch):
    """Otherwise the test above would pass whatever was packed."""
    model = tiny_model("llama")
    plain = logits(model)
    pack = module._packed
    monkeypatch.setattr(module, "_packed", lambda weight, n_rows: pack(2 * weight, n_rows))
    with block(model):
        assert (logits(model) - plain).abs().max() > 0.1


def test_gradients_are_those_of_the_weights():
    model = tiny_model("llama")
    expected = gradients(model)
    with block(model):
        found = gradients(model)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("change", ["in place", "fused step", "another tensor"])
def test_weights_that_change_are_heeded(change):
    model = tiny_model("llama")
    layer = model.model.layers[0].mlp.down_proj
    with block(model):
        before = logits(model)
        if change == "in place":
            with torch.no_grad():
                layer.weight.mul_(3)
        elif change == "fused step":  # which leaves versions as they are
            optimizer = torch.optim.AdamW([layer.weight], lr=0.5, fused=True)
            layer.weight.grad = torch.ones_like(layer.weight)
            optimizer.step()
        else:
            layer.weight = nn.Parameter(3 * layer.weight.detach())
        inside = logits(model)
    assert torch.allclose(inside, logits(model), atol=1e-5)
    assert not torch.allclose(inside, before, atol=1e-2)


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copy_multiplies_its_own_weights(way):
    model = tiny_model("llama")
    with block(model):
        if way == "deepcopy":
            other = copy.deepcopy(model)
        else:
            file = io.BytesIO()
            torch.save(model, file)
            file.seek(0)
            other = torch.load(file, weights_only=False)
        with torch.no_grad():
            other.lm_head.weight.zero_()
        assert not logits(other).any()
        assert logits(model).any()
    assert logits(model).any()


@pytest.mark.parametrize("room", [0, 1])
def test_of_what_is_not_learnt_the_largest_is_packed(monkeypatch, room):
    """Copies of the rest would lie where no gradient ever will, and leave holes there."""
    model = with_a_large_head()
    model.requires_grad_(False)
    monkeypatch.setattr(module, "MAPPED_BYTES", model.lm_head.weight.nbytes + room)
    plain = logits(model)
    with block(model):
        assert packed(model) == 1 - room
        assert ("forward" in vars(model.lm_head)) == (not room)
        torch.testing.assert_close(logits(model), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("room", [0, 1])
def test_what_is_learnt_is_packed_unless_it_is_small(monkeypatch, room):
    """An adapter's weights gain less than the calls cost."""
    model = with_a_large_head()
    monkeypatch.setattr(module, "SMALL_BYTES", model.lm_head.weight.nbytes + room)
    with block(model):
        assert packed(model) == 1 - room


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_multiplied_as_they_are(dtype):
    model = tiny_model("llama").to(dtype)
    with block(model):
        assert packed(model) == 0


def test_in_autocast_products_are_those_that_it_asks_for():
    model = tiny_model("llama")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = logits(model)
        with block(model):
            assert torch.equal(logits(model), plain)


def test_nothing_is_packed_where_nothing_is_gained(monkeypatch):
    model = tiny_model("llama")
    with block(model, n_rows=module.FEW_ROWS + 1):
        assert packed(model) == 0
    with block(model, n_steps=module.MANY_STEPS - 1):
        assert packed(model) == 0
    monkeypatch.setattr(module, "LARGE_BYTES", 2**30)
    with block(model):
        assert packed(model) == 0


def test_an_error_leaves_the_layers_as_they_were():
    model = tiny_model("llama")
    with pytest.raises(KeyError), block(model):
        raise KeyError
    assert packed(model) == 0
