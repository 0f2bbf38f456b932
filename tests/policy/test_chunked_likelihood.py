"""Likelihoods in chunks against those of all logits at once, gradients too."""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llm_gym.language_models.packing import pack
from llm_gym.learning.kl import ReferenceModel
from llm_gym.policy import EpisodeBatch, chunked_likelihood
from llm_gym.policy.chunked_likelihood import (
    answer_token_log_probs,
    log_prob_and_entropy_of_hidden,
    rows_at_once,
)
from llm_gym.policy.sampling import (
    LanguageModelHead,
    _without_decoder,
    log_prob_and_entropy,
    pack_support,
    truncated_support,
    unpack_support,
)
from llm_gym.testing.tiny import tiny_model

from .conftest import VOCABULARY

ROWS, CHUNK = 11, 3
ARCHITECTURES = ["gpt2", "llama", "gemma2", "cohere"]
"""Tied; with a matrix of its own; with a soft cap; with a scale."""


class Largest(TorchDispatchMode):
    """Notes the most elements of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = [t.numel() for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        self.elements = max([self.elements, *made])
        return result


def model_of(architecture, dtype=torch.float64):
    if architecture == "cohere":
        from transformers import CohereConfig, CohereForCausalLM

        torch.manual_seed(0)
        shape = CohereConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, logit_scale=0.25, initializer_range=0.5,
        )  # fmt: skip
        return CohereForCausalLM(shape).eval().to(dtype)
    return tiny_model(architecture, VOCABULARY).to(dtype)


def whole_head(model):
    """A head that is applied by the model's own code."""
    head = LanguageModelHead(model)
    head._whole = _without_decoder(model)
    return head


def example(head, dtype=torch.float64, seed=0):
    generator = torch.manual_seed(seed)
    hidden = torch.randn(ROWS, head.width, generator=generator, dtype=dtype)
    actions = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    support = torch.rand(ROWS, VOCABULARY, generator=generator) < 0.5
    support[torch.arange(ROWS), actions] = True
    return hidden, actions, pack_support(support)


def plain(hidden, head, actions, *, temperature=1.0, support=None, **_):
    logits = head(hidden) / temperature
    if support is not None:
        logits = logits.masked_fill(~unpack_support(support, VOCABULARY), -torch.inf)
    return log_prob_and_entropy(logits, actions)


def gradients(function, model, hidden, head, actions, entropy_weight=0.3, **kwargs):
    """Both results, and the gradients in the hidden states and in every weight of the model."""
    hidden = hidden.clone().requires_grad_()
    model.zero_grad(set_to_none=True)
    log_prob, entropy = function(hidden, head, actions, **kwargs)
    weights = torch.linspace(-1, 2, len(actions), dtype=log_prob.dtype)
    (log_prob @ weights + entropy_weight * (entropy @ weights.flip(0))).backward()
    of_model = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return log_prob.detach(), entropy.detach(), hidden.grad, of_model


def check(found, expected, atol):
    for ours, theirs in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)
    assert found[3].keys() == expected[3].keys()
    for name, gradient in found[3].items():
        torch.testing.assert_close(gradient, expected[3][name], atol=atol, rtol=0)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("make_head", [LanguageModelHead, whole_head])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_chunks_equal_the_plain_path(architecture, make_head, frozen):
    model = model_of(architecture).requires_grad_(not frozen)
    head = make_head(model)
    assert (head.plain_linear is None) == (make_head is whole_head)
    hidden, actions, support = example(head)
    for options in ({}, {"temperature": 0.7}, {"temperature": 1.3, "support": support}):
        expected = gradients(plain, model, hidden, head, actions, **options)
        for rows in (1, CHUNK, ROWS - 1, ROWS):
            found = gradients(
                log_prob_and_entropy_of_hidden, model, hidden, head, actions,
                rows_per_chunk=rows, tokens_per_block=8 * rows, **options,
            )  # fmt: skip
            check(found, expected, 1e-12)
    assert bool(expected[3]) != frozen


def test_a_head_with_a_bias_learns_it():
    model = model_of("llama")
    model.lm_head = torch.nn.Linear(32, VOCABULARY, dtype=torch.float64)
    head = LanguageModelHead(model)
    hidden, actions, support = example(head)
    expected = gradients(plain, model, hidden, head, actions, support=support)
    found = gradients(
        log_prob_and_entropy_of_hidden, model, hidden, head, actions, support=support,
        rows_per_chunk=CHUNK, tokens_per_block=8,
    )  # fmt: skip
    assert "lm_head.bias" in found[3]
    check(found, expected, 1e-12)


def test_hooks_and_wrapped_layers_are_run():
    """An adapter or a hook in the place of the layer is part of what the head computes."""
    model = model_of("llama")
    head = LanguageModelHead(model)
    hidden, actions, _ = example(head)
    undo = model.lm_head.register_forward_hook(lambda module, args, output: 2 * output)
    assert head.plain_linear is None
    expected = gradients(plain, model, hidden, head, actions)
    found = gradients(
        log_prob_and_entropy_of_hidden,
        model,
        hidden,
        head,
        actions,
        rows_per_chunk=CHUNK,
        tokens_per_block=8,
    )
    check(found, expected, 1e-12)
    undo.remove()
    assert head.plain_linear is model.lm_head
    head.linear = torch.nn.Sequential(model.lm_head)
    assert head.plain_linear is None


@pytest.mark.parametrize("frozen", [False, True])
def test_float32_is_equal_to_a_millionth(frozen):
    model = model_of("llama", torch.float32).requires_grad_(not frozen)
    head = LanguageModelHead(model)
    hidden, actions, support = example(head, torch.float32)
    expected = gradients(plain, model, hidden, head, actions, support=support)
    found = gradients(
        log_prob_and_entropy_of_hidden, model, hidden, head, actions, support=support,
        rows_per_chunk=CHUNK, tokens_per_block=8,
    )  # fmt: skip
    check(found, expected, 2e-6)


@pytest.mark.parametrize("dtype", ["autocast", "weights"])
@pytest.mark.parametrize("make_head", [LanguageModelHead, whole_head])
@pytest.mark.parametrize("frozen", [False, True])
def test_bfloat16_rounds_as_the_plain_path_does(frozen, make_head, dtype):
    """Sums of a gradient's shares differ by a rounding of bfloat16, and no more."""
    autocast = dtype == "autocast"
    model = model_of("gemma2", torch.float32 if autocast else torch.bfloat16)
    model.requires_grad_(not frozen)
    head = make_head(model)
    hidden, actions, support = example(head, torch.float32 if autocast else torch.bfloat16)
    options = {"support": support, "autocast_dtype": torch.bfloat16 if autocast else None}
    run = [log_prob_and_entropy_of_hidden, model, hidden, head, actions]
    expected = gradients(*run, rows_per_chunk=ROWS, tokens_per_block=64, **options)
    found = gradients(*run, rows_per_chunk=CHUNK, tokens_per_block=8, **options)
    assert found[0].dtype == torch.float32
    for ours, theirs in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.03, rtol=0.03)
    for name, gradient in found[3].items():
        assert gradient.dtype == expected[3][name].dtype
        torch.testing.assert_close(gradient, expected[3][name], atol=0.05, rtol=0.03)
    if autocast:  # and it does compute in bfloat16
        exact = gradients(*run, rows_per_chunk=CHUNK, tokens_per_block=8, support=support)
        assert (found[0] - exact[0]).abs().max() > 1e-4


@pytest.mark.parametrize("make_head", [LanguageModelHead, whole_head])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
def test_no_tensor_has_the_logits_of_all_rows(frozen, make_head, entropy_weight):
    n_tokens, rows = 257, 64
    model = tiny_model("llama", n_tokens).requires_grad_(not frozen)
    head = make_head(model)
    hidden = torch.randn(rows, head.width)
    actions = torch.randint(n_tokens, (rows,))
    of_weights = n_tokens * head.width
    run = [model, hidden, head, actions, entropy_weight]
    with Largest() as largest:
        gradients(plain, *run)
    assert largest.elements == rows * n_tokens == 2 * of_weights  # the spy can see
    with Largest() as largest:
        gradients(log_prob_and_entropy_of_hidden, *run, rows_per_chunk=8, tokens_per_block=8)
    # A linear head's weights are taken in blocks, and of a frozen one no gradient is made.
    of_rows = rows * head.width
    blocks = make_head is LanguageModelHead
    assert largest.elements == (of_rows if blocks and frozen else of_weights)
    with Largest() as largest, torch.no_grad():
        log_prob_and_entropy_of_hidden(hidden, head, actions, rows_per_chunk=8, tokens_per_block=8)
    assert largest.elements == (of_rows if blocks else of_weights)  # a view of them


@pytest.mark.parametrize(("entropy_weight", "passes"), [(0.0, 1), (0.3, 2)])
def test_a_frozen_head_computes_logits_again_for_an_entropy_bonus_only(
    entropy_weight, passes, monkeypatch
):
    model = model_of("llama").requires_grad_(False)
    head = LanguageModelHead(model)
    hidden, actions, _ = example(head)
    counted = []
    finish = head.finish
    monkeypatch.setattr(head, "finish", lambda raw: counted.append(raw.numel()) or finish(raw))
    gradients(
        log_prob_and_entropy_of_hidden, model, hidden, head, actions, entropy_weight,
        rows_per_chunk=CHUNK, tokens_per_block=8,
    )  # fmt: skip
    assert sum(counted) == passes * ROWS * VOCABULARY


def test_a_second_derivative_is_refused():
    head = LanguageModelHead(model_of("llama"))
    hidden, actions, _ = example(head)
    hidden.requires_grad_()
    log_prob, _ = log_prob_and_entropy_of_hidden(
        hidden, head, actions, rows_per_chunk=CHUNK, tokens_per_block=8
    )
    (gradient,) = torch.autograd.grad((log_prob**2).sum(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_where_chunks_begin():
    """The whole up to the threshold, then as few chunks as do, of one size; never nothing."""
    assert rows_at_once(682, 49_152) == 682
    assert rows_at_once(683, 49_152) == 228  # of three chunks, of 341 at most
    assert rows_at_once(512, 151_936) == 103  # of five, of 110 at most
    assert rows_at_once(2, 10**9) == 1
    assert rows_at_once(32, 2**20) == 32
    assert rows_at_once(33, 2**20) == 11
    assert rows_at_once(170, 49_152, learns=False) == 170
    assert rows_at_once(171, 49_152, learns=False) == 86


# ------------------------------------------------------------------ where it is used


@contextmanager
def in_chunks(monkeypatch, rows=2):
    with monkeypatch.context() as patch:
        patch.setattr(chunked_likelihood, "rows_at_once", lambda n_rows, n_tokens, learns: rows)
        patch.setattr(chunked_likelihood, "tokens_at_once", lambda n_rows, device: 8)
        yield


def episodes(support=None) -> EpisodeBatch:
    ids = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0]])
    rows, slots = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([2, 3, 4, 1, 2])
    return EpisodeBatch(ids, rows, slots, support)


def packed_support(policy, batch) -> torch.Tensor:
    with torch.no_grad():
        logits = policy.model(batch.context).logits[batch.action_rows, batch.action_slots - 1]
    support = truncated_support(logits, 8, 1.0)
    support[torch.arange(len(batch.actions)), batch.actions] = True
    return pack_support(support)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 8},
        {"mixed_precision": "bf16"},
        {"separate_critic": True},
    ],
    ids=str,
)
def test_a_policy_evaluates_actions_alike(make_policy, monkeypatch, architecture, frozen, options):
    bf16 = "mixed_precision" in options
    dtype = "float32" if bf16 else "float64"
    policy = make_policy(architecture, dtype=dtype, **options)
    policy.model.get_input_embeddings().requires_grad_(not frozen)
    policy.model.get_output_embeddings().requires_grad_(not frozen)
    batch = episodes()
    if "top_k" in options:
        batch = episodes(packed_support(policy, batch))

    def everything():
        policy.zero_grad(set_to_none=True)
        values, log_prob, entropy = policy.evaluate_actions(batch, batch.actions)
        (values.sum() + (log_prob * 2).sum() - 0.1 * entropy.sum()).backward()
        grads = [p.grad.clone() for p in policy.parameters() if p.grad is not None]
        return [values, log_prob, entropy, *grads]

    expected = everything()
    with in_chunks(monkeypatch):
        found = everything()
    for ours, theirs in zip(found, expected, strict=True):
        of_largest = 0.02 * float(theirs.detach().abs().max()) if bf16 else 0.0
        torch.testing.assert_close(ours, theirs, atol=max(of_largest, 1e-11), rtol=0)
    assert any(
        "h." in n or "layers" in n for n, p in policy.named_parameters() if p.grad is not None
    )


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_a_reference_evaluates_alike(monkeypatch, mixed_precision):
    model = model_of("gpt2", torch.float32)
    reference = ReferenceModel(
        copy.deepcopy(model), temperature=0.8, mixed_precision=mixed_precision
    )
    generator = torch.manual_seed(0)
    support = torch.rand(5, VOCABULARY, generator=generator) < 0.6
    support[torch.arange(5), episodes().actions] = True
    batch = episodes(pack_support(support))
    logits = reference.logits(batch)
    expected = log_prob_and_entropy(logits, batch.actions)[0]
    assert (logits.isneginf() == ~support).all()
    with in_chunks(monkeypatch):
        found = reference.log_probs(batch)
    tolerance = 1e-5 if mixed_precision == "no" else 0.05
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    assert math.isfinite(float(found.sum()))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_answers_under_a_model_are_alike_in_chunks(monkeypatch, architecture):
    """Gradients in every parameter, padding and prompts without logits."""
    model = model_of(architecture)
    batch = pack([[3, 4, 5, 6, 7, 9], [8, 9, 10]], [2, 1])

    def run():
        model.zero_grad(set_to_none=True)
        log_probs = answer_token_log_probs(model, batch)
        (log_probs @ torch.arange(1.0, 7.0, dtype=torch.float64)).backward()
        return [log_probs.detach(), *[p.grad.clone() for p in model.parameters()]]

    expected = run()
    monkeypatch.setattr(chunked_likelihood, "WHOLE_BYTES", 0)
    monkeypatch.setattr(chunked_likelihood, "tokens_at_once", lambda n_rows, device: 8)
    with Largest() as largest:
        found = run()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)
    assert largest.elements <= max(p.numel() for p in model.parameters())
    with torch.inference_mode():
        assert torch.allclose(answer_token_log_probs(model, batch), expected[0])
