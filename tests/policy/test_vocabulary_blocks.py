"""A head's tokens in blocks against all logits at once: what blocks alone have to get right."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from llm_gym.policy import chunked_likelihood, vocabulary_blocks
from llm_gym.policy.chunked_likelihood import log_prob_and_entropy_of_hidden
from llm_gym.policy.sampling import LanguageModelHead, log_prob_and_entropy, pack_support
from llm_gym.policy.vocabulary_blocks import tokens_at_once
from llm_gym.testing.tiny import tiny_model

from .test_chunked_likelihood import check, gradients, plain

VOCABULARY, ROWS, CPU = 64, 9, torch.device("cpu")


def example(seed=0, *, frozen=False, scale=1.0):
    torch.manual_seed(seed)
    model = tiny_model("llama", VOCABULARY).double().requires_grad_(not frozen)
    head = LanguageModelHead(model)
    hidden = scale * torch.randn(ROWS, head.width, dtype=torch.float64)
    return model, head, hidden, torch.randint(VOCABULARY, (ROWS,))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
def test_a_block_of_which_everything_is_cut(frozen, entropy_weight):
    """The first, some in the middle, the last; of some rows one token alone is left."""
    model, head, hidden, actions = example(frozen=frozen)
    support = torch.zeros(ROWS, VOCABULARY, dtype=torch.bool)
    support[:3, 24:40] = True
    support[3:6, 8:9] = True
    support[torch.arange(ROWS), actions] = True
    options = {"support": pack_support(support), "temperature": 0.7}

    def everything_at_once(hidden, head, actions, *, temperature, **_):
        logits = (head(hidden) / temperature).masked_fill(~support, -torch.inf)
        return log_prob_and_entropy(logits, actions)

    run = [model, hidden, head, actions, entropy_weight]
    expected = gradients(everything_at_once, *run, **options)
    for size in (8, 16, 24, 64):
        found = gradients(log_prob_and_entropy_of_hidden, *run, **options, tokens_per_block=size)
        check(found, expected, 1e-12)


@pytest.mark.parametrize("frozen", [False, True])
def test_logits_of_any_size_are_summed_without_overflow(frozen):
    """Hundreds of nats between tokens: the largest logit comes first, last, in the middle."""
    model, head, hidden, actions = example(frozen=frozen, scale=300.0)
    expected = gradients(plain, model, hidden, head, actions)
    found = gradients(
        log_prob_and_entropy_of_hidden, model, hidden, head, actions, tokens_per_block=8
    )
    assert torch.isfinite(torch.cat([found[0], found[1]])).all()
    assert float(found[0].min()) < -100
    check(found, expected, 1e-9)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_hidden_state_that_is_no_number_is_not_hidden(bad):
    _, head, hidden, actions = example()
    hidden[4, 0] = bad
    log_prob, entropy = log_prob_and_entropy_of_hidden(hidden, head, actions, tokens_per_block=8)
    others = torch.arange(ROWS) != 4
    assert log_prob[4].isnan()
    assert entropy[4].isnan()
    assert torch.isfinite(torch.cat([log_prob[others], entropy[others]])).all()


@pytest.mark.parametrize("size", [8, 24, 64])
def test_logits_are_kept_where_they_are_small_and_computed_again_where_not(monkeypatch, size):
    model, head, hidden, actions = example()
    expected = gradients(plain, model, hidden, head, actions)

    def kept(limit):
        monkeypatch.setattr(vocabulary_blocks, "KEPT_BYTES", limit)
        saved = []
        with saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
            found = gradients(
                log_prob_and_entropy_of_hidden, model, hidden, head, actions, tokens_per_block=size
            )
        check(found, expected, 1e-12)
        return sum(saved)

    logits = ROWS * VOCABULARY
    assert kept(4 * logits) - kept(4 * logits - 1) == logits


def test_a_graph_that_is_kept_gives_the_same_again():
    """The backward pass leaves what was kept as it is."""
    _, head, hidden, actions = example()
    hidden.requires_grad_()
    sums = log_prob_and_entropy_of_hidden(hidden, head, actions, tokens_per_block=8)
    loss = sums[0].sum() + 0.1 * sums[1].sum()
    first, second = (
        torch.autograd.grad(loss, [hidden, head.linear.weight], retain_graph=True) for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_many_rows_are_taken_some_after_others(monkeypatch):
    model, head, hidden, actions = example()
    support = torch.rand(ROWS, VOCABULARY, generator=torch.manual_seed(1)) < 0.5
    support[torch.arange(ROWS), actions] = True
    options = {"support": pack_support(support), "tokens_per_block": 16}
    run = [log_prob_and_entropy_of_hidden, model, hidden, head, actions]
    expected = gradients(*run, **options)
    monkeypatch.setattr(vocabulary_blocks, "MOST_ROWS", 4)
    check(gradients(*run, **options), expected, 1e-12)


def test_a_small_vocabulary_is_one_block_and_takes_the_plain_path(monkeypatch):
    asked = []
    in_blocks = chunked_likelihood.log_prob_and_entropy_in_blocks
    monkeypatch.setattr(
        chunked_likelihood,
        "log_prob_and_entropy_in_blocks",
        lambda *args, **kwargs: asked.append(1) or in_blocks(*args, **kwargs),
    )
    _, head, hidden, actions = example()
    log_prob_and_entropy_of_hidden(hidden, head, actions)
    assert asked == []
    monkeypatch.setattr(vocabulary_blocks, "_LEAST", 8)
    monkeypatch.setattr(vocabulary_blocks, "_CACHED", 8 * ROWS)
    log_prob_and_entropy_of_hidden(hidden, head, actions)
    assert asked == [1]


def test_the_tokens_of_a_block():
    assert tokens_at_once(256, CPU) == 1024
    assert tokens_at_once(16_384, CPU) == 1024  # products of fewer are slower
    assert tokens_at_once(100, CPU) == 2616  # of 2,621 that fit: bits are packed eight to a byte
    assert tokens_at_once(0, CPU) == 2**18
    assert tokens_at_once(256, torch.device("meta")) == 65_536
