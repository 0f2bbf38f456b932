"""What is put into a model after its policy was built counts as its own weights do."""

from __future__ import annotations

import copy
from collections import OrderedDict
from types import MappingProxyType

import pytest
import torch
from torch import nn

from llm_gym.policy.watching import Watch
from tests.policy.conftest import naive_log_probs, observe


class Adapter(nn.Module):
    """As PEFT's: it takes a layer's place, and adds a low-rank term to what the layer says."""

    def __init__(self, base: nn.Module, width: int) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(width, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, width, bias=False)})
        self.register_buffer("shift", torch.zeros(width))
        self.scaling = {"default": 1.0}
        self._disable_adapters = False
        generator = torch.manual_seed(5)
        for layer in (self.lora_A, self.lora_B):
            nn.init.normal_(layer["default"].weight, std=0.5, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = self.base_layer(x) + self.shift
        if self._disable_adapters:
            return said
        return said + self.scaling["default"] * self.lora_B["default"](self.lora_A["default"](x))


@pytest.fixture
def playing(make_policy):
    """A policy, its first block's projection wrapped, and a check of what it says of a row."""
    policy = make_policy()
    attention = policy.model.transformer.h[0].attn
    width = attention.c_proj.weight.shape[0]
    row = [3, 4, 5]

    def check() -> torch.Tensor:
        """One token from the cache, as from a plain pass; the distribution before it."""
        with torch.no_grad():
            action, _, log_prob = policy(observe([row]))
        expected = naive_log_probs(policy.model, row)
        torch.testing.assert_close(log_prob, expected[action], atol=1e-5, rtol=0)
        row.append(int(action))
        return expected

    check()
    attention.c_proj = Adapter(attention.c_proj, width)
    check()
    return policy, attention, check


def _in_place(adapter):
    with torch.no_grad():
        adapter.lora_B["default"].weight.mul_(-3)


def _by_an_optimizer(adapter):
    optimizer = torch.optim.SGD(adapter.lora_A.parameters(), lr=5.0)
    adapter.lora_A["default"].weight.square().sum().backward()
    optimizer.step()


def _by_a_buffer(adapter):
    adapter.shift += 2.0


def _by_a_new_buffer(adapter):
    adapter.shift = torch.ones_like(adapter.shift)


def _by_scale(adapter):
    adapter.scaling["default"] = -4.0


def _by_its_switch(adapter):
    adapter._disable_adapters = True


def _by_another_layer(adapter):
    adapter.lora_B["default"] = nn.Linear(2, adapter.shift.numel())


def _by_a_hook(adapter):
    adapter.base_layer.register_forward_hook(lambda module, args, said: said * 3)


CHANGES = [
    _in_place,
    _by_an_optimizer,
    _by_a_buffer,
    _by_a_new_buffer,
    _by_scale,
    _by_its_switch,
    _by_another_layer,
    _by_a_hook,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_whatever_changes_an_adapter_put_in_later_empties_the_cache(playing, change):
    _, attention, check = playing
    check()
    change(attention.c_proj)
    check()


def test_an_adapter_taken_out_again_empties_the_cache(playing):
    _, attention, check = playing
    attention.c_proj = attention.c_proj.base_layer
    check()


def test_writes_to_data_of_an_adapter_are_seen_between_modes(playing):
    policy, attention, check = playing
    attention.c_proj.lora_B["default"].weight.data.mul_(-3)
    policy.set_training_mode(not policy.training)
    check()


def test_an_adapter_that_stays_as_it_is_costs_no_second_reading(playing, monkeypatch):
    policy, _, check = playing
    read: list[int] = []
    forward = policy.model.transformer.forward

    def spy(*args, **kwargs):
        if kwargs.get("past_key_values") is not None:  # not the plain passes of `check`
            read.append(kwargs["input_ids"].shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(policy.model.transformer, "forward", spy)
    check()
    check()
    assert read[-2:] == [1, 1]


def test_a_copied_policy_watches_the_copy(playing):
    policy, _, check = playing
    twin = copy.deepcopy(policy)
    row = [7, 8]
    with torch.no_grad():
        twin(observe([row]))
    twin.model.transformer.h[0].attn.c_proj.scaling["default"] = -4.0
    row.append(9)
    with torch.no_grad():
        action, _, log_prob = twin(observe([row]))
    expected = naive_log_probs(twin.model, row)[action]
    torch.testing.assert_close(log_prob, expected, atol=1e-5, rtol=0)
    check()


def test_bits_are_read_of_every_type_of_tensor():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
            for dtype in (torch.bool, torch.int8, torch.complex64, torch.complex128, torch.float64):
                self.register_buffer(str(dtype).split(".")[1], torch.ones(3, dtype=dtype))
            self.register_buffer("none", None)

    module = Odd()
    watch = Watch(module)
    before = watch.bits()
    assert len(before) == 6
    for number, tensor in enumerate(watch.tensors):
        tensor.data[0] = 0
        after = watch.bits()
        assert [i for i in range(6) if after[i] != before[i]] == [number]
        before = after


def _append(decoder):
    decoder.h.append(nn.Identity())


def _put_in(decoder):
    decoder.h._modules["more"] = nn.Identity()  # which nothing counts


def _pop(decoder):
    del decoder.h[-1]


def _hook(decoder):
    decoder.h[0].register_forward_hook(lambda *_: None)


def _unhook(decoder):
    decoder.h[1]._forward_hooks.clear()


def _weight(decoder):
    decoder.ln_f.weight = nn.Parameter(torch.ones_like(decoder.ln_f.weight))


def _buffer(decoder):
    decoder.register_buffer("shift", torch.zeros(1))


@pytest.mark.parametrize("change", [_append, _put_in, _pop, _hook, _unhook, _weight, _buffer])
def test_a_change_of_the_parts_is_seen_once(change, make_policy):
    decoder = make_policy().model.transformer
    decoder.h[1].register_forward_hook(lambda *_: None)
    watch = Watch(decoder)
    before = watch.look()
    nn.Linear(2, 2)  # somebody else's module
    assert watch.look() == before
    change(decoder)
    after = watch.look()
    assert after != before
    assert watch.look() == after


@pytest.mark.parametrize("kind", [dict, OrderedDict, MappingProxyType])
def test_switches_in_mappings_are_seen(kind):
    """However a module of somebody else's keeps them."""
    own = {"default": True}
    adapter = Adapter(nn.Linear(2, 2), 2)
    adapter.active = own if kind is dict else kind(own)
    watch = Watch(adapter)
    before = watch.look()
    assert watch.look() == before
    if kind is MappingProxyType:
        own["default"] = False
    else:
        adapter.active["default"] = False
    assert watch.look() != before
