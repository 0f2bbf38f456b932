"""A head is a linear layer where that gives the model's own logits, and the model's code else."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from llm_gym.language_models.architecture import decoder_of
from llm_gym.policy.sampling import LanguageModelHead
from llm_gym.testing.tiny import tiny_model

WIDTH = VOCABULARY = 32


def test_nothing_is_kept_for_a_backward_pass_while_a_head_is_compared():
    model, recorded = tiny_model(), []
    for module in (decoder_of(model), model.get_output_embeddings()):
        module.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
    head = LanguageModelHead(model)
    assert len(recorded) >= 3
    assert not any(recorded)
    assert head(torch.ones(2, WIDTH)).requires_grad


def test_rounding_as_large_as_the_tolerance_is_borne(monkeypatch):
    monkeypatch.setattr("llm_gym.policy.sampling.tolerance", lambda *_: 0.0)
    model = tiny_model()
    assert LanguageModelHead(model).plain_linear is model.get_output_embeddings()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(WIDTH + 1, VOCABULARY),  # raises
        nn.Linear(WIDTH, VOCABULARY // 2),
        nn.Linear(WIDTH, VOCABULARY * 2),
        nn.Linear(WIDTH, VOCABULARY),
    ],
    ids=str,
)
def test_a_layer_that_gives_other_logits_is_left_to_the_model(layer):
    model = tiny_model("llama")
    model.get_output_embeddings = lambda: layer
    head, ids = LanguageModelHead(model), torch.tensor([[5, 6, 7]])
    assert head.plain_linear is None
    with torch.no_grad():
        hidden = decoder_of(model)(input_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(head(hidden), model(input_ids=ids).logits[0])


class _Other(nn.Linear):
    """A linear layer that may compute something else."""


def _hooked(register):
    def change(model):
        getattr(model.get_output_embeddings(), register)(lambda *_: None)

    return change


def _replaced(model):
    linear = model.get_output_embeddings()
    linear.forward = linear.forward


def _subclass(model):
    model.set_output_embeddings(_Other(WIDTH, VOCABULARY, bias=False))


@pytest.mark.parametrize(
    "change",
    [
        _hooked("register_forward_hook"),
        _hooked("register_forward_pre_hook"),
        _hooked("register_full_backward_hook"),
        _replaced,
        _subclass,
    ],
)
def test_a_layer_that_may_do_more_is_no_plain_one(change):
    model = tiny_model()
    assert LanguageModelHead(model).plain_linear is not None
    change(model)
    assert LanguageModelHead(model).plain_linear is None


@pytest.mark.parametrize("logit", [float("nan"), float("inf")])
def test_a_model_whose_logits_are_no_numbers_is_refused(logit):
    model = tiny_model()

    def spoil(module, args, output):
        output.logits[0, -1, 3] = logit
        return output

    model.register_forward_hook(spoil)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is refused, and nothing else is said
        with pytest.raises(ValueError, match="are NaN or infinite"):
            LanguageModelHead(model)


def test_a_model_that_wants_more_than_token_ids_is_refused():
    model = tiny_model()

    def ask(module, args, kwargs):
        raise TypeError("missing pixel_values")

    model.register_forward_pre_hook(ask, with_kwargs=True)
    with pytest.raises(ValueError, match="cannot read token ids alone, TypeError: missing pixel"):
        LanguageModelHead(model)
    assert not decoder_of(model)._forward_hooks
