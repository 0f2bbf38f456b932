"""What nobody asks for is left out of the last layer: the same states, the same gradients."""

from __future__ import annotations

import copy
from contextlib import suppress
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks.architectures.tiny import tiny_model as any_tiny_model
from llm_gym.language_models.architecture import decoder_of
from llm_gym.language_models.packing import pack
from llm_gym.policy import EpisodeBatch, last_layer
from llm_gym.policy.trunk import Trunk
from llm_gym.testing.tiny import tiny_model
from tests.policy.test_packed_rows import BATCH, ragged
from tests.policy.test_shared_prompts import apart, groups, hidden_and_gradients

IN_FLOAT64 = ["gpt2", "gpt_neox", "llama", "opt"]
PARTS = {
    "gemma2": ["Gemma2MLP"],
    "gpt_neo": ["GPTNeoMLP"],
    "mamba": [None],
    "qwen3": ["Qwen3MLP"],
    "qwen3_moe": ["Qwen3MoeSparseMoeBlock"],
    "bloom": [None],
}
ONE_LENGTH = ragged([(6, 2), (5, 3), (7, 1)])


def part_of(trunk: Trunk) -> nn.Module:
    """What is left out of the last layer, once the model was asked."""
    with torch.no_grad():
        trunk.of_episodes(ONE_LENGTH)
    (part,) = trunk._last_layer._parts.values()
    assert part is not None
    return part


def tokens_computed(trunk: Trunk) -> list[int]:
    """Tokens that the part is given, in each pass from now on."""
    part, seen = part_of(trunk), []
    forward = part.forward
    part.forward = lambda hidden: seen.append(hidden.shape[:-1].numel()) or forward(hidden)
    return seen


def both(model) -> tuple[Trunk, Trunk]:
    """A trunk that leaves out what it may, and one that computes everything."""
    leaves_out, plain = (Trunk(copy.deepcopy(decoder_of(model))) for _ in range(2))
    plain._last_layer._parts = dict.fromkeys(plain.decoder.modules())
    return leaves_out, plain


@pytest.mark.parametrize("batch", [BATCH, ONE_LENGTH, groups()], ids=["packed", "plain", "shared"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", IN_FLOAT64)
def test_states_and_gradients_are_those_of_whole_layers(name, attention, batch):
    leaves_out, plain = both(any_tiny_model(name, attn_implementation=attention).double())
    expected, gradients = hidden_and_gradients(plain, batch)
    leaves_out.of_episodes(batch)  # asks
    computed = tokens_computed(leaves_out)
    found, others = hidden_and_gradients(leaves_out, batch)
    places = set(zip(batch.action_rows.tolist(), batch.action_slots.tolist(), strict=True))
    assert 0 < sum(computed) <= len(places)  # fewer where answers are alike
    assert apart(found, expected) < 1e-12
    assert gradients.keys() == others.keys()
    assert max(apart(others[name], gradients[name]) for name in gradients) < 1e-11


@pytest.mark.parametrize("name", PARTS)
def test_whatever_an_architecture_calls_its_parts_with(name):
    model = any_tiny_model(name)
    leaves_out, plain = both(model)
    with torch.no_grad():
        assert apart(leaves_out.of_episodes(ONE_LENGTH), plain.of_episodes(ONE_LENGTH)) < 1e-5
    found = [part and type(part).__name__ for part in leaves_out._last_layer._parts.values()]
    assert found == PARTS[name]


def test_a_state_that_two_answers_share_has_the_sum_of_their_gradients():
    leaves_out, plain = both(tiny_model("gpt2").double())
    batch = EpisodeBatch.of(pack([[7, 8, 1, 9]] * 4 + [[7, 8, 5, 9]], [2] * 5))
    expected, gradients = hidden_and_gradients(plain, batch)
    found, others = hidden_and_gradients(leaves_out, batch)
    assert apart(found, expected) < 1e-12
    assert max(apart(others[name], gradients[name]) for name in gradients) < 1e-11


def test_a_layer_that_runs_again_later_is_not_the_last():
    """One set of weights for all layers: what is left out of the first would be missed."""
    model = tiny_model("llama")
    layers = decoder_of(model).layers
    layers[0] = layers[1]
    leaves_out, plain = both(model)
    with torch.no_grad():
        assert apart(leaves_out.of_episodes(ONE_LENGTH), plain.of_episodes(ONE_LENGTH)) < 1e-5
    assert list(leaves_out._last_layer._parts.values()) == [None]


def test_layers_that_run_again_in_the_backward_pass_are_whole():
    leaves_out, plain = both(tiny_model("llama"))
    computed = tokens_computed(leaves_out)
    leaves_out.decoder.gradient_checkpointing_enable()
    expected, gradients = hidden_and_gradients(plain, ONE_LENGTH)
    found, others = hidden_and_gradients(leaves_out, ONE_LENGTH)
    assert computed == [ONE_LENGTH.context.numel()] * 2
    assert apart(found, expected) < 1e-5
    assert max(apart(others[name], gradients[name]) for name in gradients) < 1e-5


@pytest.mark.parametrize("fails", [False, True])
def test_the_part_is_as_it_was_afterwards(fails):
    trunk = Trunk(decoder_of(tiny_model("llama")))
    part = part_of(trunk)
    assert "forward" not in vars(part)
    if fails:
        trunk.decoder.norm.register_forward_pre_hook(lambda *_: 1 / 0)
    own = part.forward
    part.forward = lambda hidden: own(hidden)
    put_in = part.forward
    with suppress(ZeroDivisionError):
        trunk.of_episodes(ONE_LENGTH)
    assert vars(part)["forward"] is put_in


@pytest.mark.parametrize(("left_out", "asked"), [(1, False), (2, True)])
def test_what_would_save_next_to_nothing_is_computed(left_out, asked, monkeypatch):
    monkeypatch.setattr(last_layer, "WORTH_IT", 1 / 8)  # of two layers of 8 tokens 2
    trunk = Trunk(decoder_of(tiny_model("gpt2")))
    with trunk.only_at(torch.arange(left_out, 8), 8):
        pass
    assert bool(trunk._last_layer._parts) == asked


def test_the_question_draws_nothing_and_is_asked_once_in_float32():
    trunk, passes = Trunk(decoder_of(tiny_model("gpt2"))), []
    state = torch.get_rng_state()
    trunk.decoder.register_forward_pre_hook(
        lambda *_: passes.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
    )
    with torch.autocast("cpu", torch.bfloat16):
        trunk.of_episodes(ONE_LENGTH)
        trunk.of_episodes(ONE_LENGTH)
    assert torch.equal(state, torch.get_rng_state())
    assert passes == [(False, False)] * 2 + [(True, True)] * 2


def test_a_part_that_looks_at_other_tokens_is_computed_whole():
    leaves_out, plain = both(tiny_model("gpt2"))
    for trunk in (leaves_out, plain):
        part = trunk.decoder.h[-1].mlp
        part.forward = partial(with_mean, part.forward)
    with torch.no_grad():
        found, expected = (t.of_episodes(ONE_LENGTH) for t in (leaves_out, plain))
    assert apart(found, expected) < 1e-5
    assert list(leaves_out._last_layer._parts.values()) == [None]


def with_mean(forward, hidden):
    return forward(hidden) + hidden.mean(1, keepdim=True)


@pytest.mark.parametrize("fault", ["short context", "rows of one length"])
def test_a_model_that_cannot_be_asked_computes_everything(fault):
    model = tiny_model("gpt2", n_positions=3 if fault == "short context" else 64)
    batch = ragged([(2, 2), (2, 2), (2, 2)])
    leaves_out, plain = both(model)
    for trunk in (leaves_out, plain):
        if fault == "rows of one length":
            part = trunk.decoder.h[-1].mlp
            part.forward = partial(of_three_rows, part.forward)
    with torch.no_grad():
        assert apart(leaves_out.of_episodes(batch), plain.of_episodes(batch)) < 1e-5
    assert list(leaves_out._last_layer._parts.values()) == [None]


def of_three_rows(forward, hidden):
    if len(hidden) != 3:
        raise ValueError("this part takes three rows")
    return forward(hidden)
