"""Options that save memory and change nothing: sequences at a time, layers computed again."""

from __future__ import annotations

import pytest
import torch

from llm_gym.policy import EpisodeBatch, TwiceDifferentiablePolicy, chunked_likelihood
from llm_gym.policy.sampling import pack_support
from tests.products import covering

from .conftest import VOCABULARY, evaluated, observe, tokens_read

every_architecture = pytest.mark.parametrize("architecture", ["gpt2", "llama"])


def episodes(support=None) -> EpisodeBatch:
    """Four episodes, one without an action; actions in no order."""
    ids = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0], [1, 2, 0, 0, 0], [4, 4, 4, 4, 0]])
    rows, slots = torch.tensor([3, 0, 1, 0, 3]), torch.tensor([2, 2, 2, 4, 3])
    return EpisodeBatch(ids, rows, slots, support)


def gradients(policy, batch):
    policy.zero_grad(set_to_none=True)
    values, log_prob, entropy = policy.evaluate_actions(batch, batch.actions)
    weights = torch.arange(1.0, 6.0, dtype=torch.float64)
    (values.flatten() @ weights + 2 * log_prob @ weights - 0.1 * entropy @ weights).backward()
    grads = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return [values, log_prob, entropy, torch.cat(grads)]


def check_close(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)


@every_architecture
@pytest.mark.parametrize(
    ("chunks", "gradient_checkpointing", "options"),
    covering([True, False], [True, False], [{}, {"top_k": 5}, {"separate_critic": True}]),
)
def test_everything_at_once_changes_nothing(
    make_policy, monkeypatch, architecture, chunks, gradient_checkpointing, options
):
    support = torch.rand(5, VOCABULARY, generator=torch.manual_seed(0)) < 0.5
    support[torch.arange(5), episodes().actions] = True
    batch = episodes(pack_support(support) if "top_k" in options else None)
    expected = gradients(make_policy(architecture, dtype="float64", **options), batch)
    if chunks:
        monkeypatch.setattr(chunked_likelihood, "rows_at_once", lambda n_rows, n_tokens, learns: 1)
        monkeypatch.setattr(chunked_likelihood, "tokens_at_once", lambda n_rows, device: 8)
    for size in (1, 2, 3, 4):
        policy = make_policy(
            architecture,
            dtype="float64",
            micro_batch_size=size,
            gradient_checkpointing=gradient_checkpointing,
            **options,
        )
        check_close(gradients(policy, batch), expected)


def test_parts_of_a_batch():
    batch = episodes()
    parts = list(batch.split(2))
    assert [part.input_ids.tolist() for part, _ in parts] == [
        [[3, 4, 5, 6, 7], [8, 9, 10, 0, 0]],
        [[1, 2, 0, 0], [4, 4, 4, 4]],  # no wider than the last action
    ]
    for part, chosen in parts:
        assert torch.equal(part.actions, batch.actions[chosen])
    assert [chosen.tolist() for _, chosen in batch.split(1)] == [[1, 3], [2], [0, 4]]


@every_architecture
def test_less_is_kept_for_the_backward_pass(make_policy, architecture):
    ids = torch.randint(VOCABULARY, (8, 20), generator=torch.manual_seed(0))
    batch = EpisodeBatch(ids, torch.arange(8).repeat(6), torch.arange(10, 16).repeat_interleave(8))

    def kept(**options):
        return evaluated(make_policy(architecture, **options), batch)[1]

    everything = kept()
    assert kept(gradient_checkpointing=True) < 0.7 * everything
    assert kept(micro_batch_size=2) < 0.1 * everything


def test_a_rollout_is_not_cut(make_policy, monkeypatch):
    """Decoding reads all rows at once, from the cache."""
    policy = make_policy(micro_batch_size=1, gradient_checkpointing=True)
    sizes = tokens_read(policy, monkeypatch)
    with torch.no_grad():
        policy(observe([[3, 4], [5, 6], [7, 8]]))
        policy(observe([[3, 4, 5], [5, 6, 7], [7, 8, 9]]))
    assert sizes == [(3, 2), (3, 1)]


def test_the_natural_gradient_bears_layers_that_are_computed_again(tiny_dir, make_policy):
    """TRPO differentiates twice."""
    policy = make_policy()
    twice = [
        TwiceDifferentiablePolicy(
            policy.observation_space,
            policy.action_space,
            lambda _: 1e-3,
            model=tiny_dir("gpt2"),
            dtype="float64",
            gradient_checkpointing=again,
        )
        for again in (False, True)
    ]
    batch = episodes()

    def second(policy):
        logits = policy.get_distribution(batch).distribution.logits
        weights = list(policy.model.parameters())
        first = torch.autograd.grad(logits.square().sum(), weights, create_graph=True)
        total = sum(gradient.square().sum() for gradient in first)
        return torch.cat([g.flatten() for g in torch.autograd.grad(total, weights)])

    torch.testing.assert_close(second(twice[1]), second(twice[0]), atol=1e-9, rtol=1e-9)


def test_trpo_has_no_micro_batches(tiny_dir, make_policy):
    policy = make_policy()
    with pytest.raises(ValueError, match=r"micro_batch_size=2.*TRPO"):
        TwiceDifferentiablePolicy(
            policy.observation_space,
            policy.action_space,
            lambda _: 1e-3,
            model=tiny_dir("gpt2"),
            micro_batch_size=2,
        )


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"micro_batch_size": 0}, ValueError, "micro_batch_size=0 must be a whole number"),
        ({"micro_batch_size": 1.5}, TypeError, "micro_batch_size=1.5 must be a whole number"),
        ({"gradient_checkpointing": 1}, ValueError, "gradient_checkpointing=1 must be one of"),
    ],
)
def test_options_out_of_range_are_refused(make_policy, option, error, message):
    with pytest.raises(error, match=message):
        make_policy(**option)


def test_an_architecture_that_cannot_is_refused(make_policy, monkeypatch):
    from transformers import GPT2LMHeadModel

    monkeypatch.setattr(GPT2LMHeadModel, "supports_gradient_checkpointing", False)
    with pytest.raises(ValueError, match=r"gradient_checkpointing=True, but GPT2LMHeadModel"):
        make_policy(gradient_checkpointing=True)
    monkeypatch.undo()
    for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable"):
        if hasattr(GPT2LMHeadModel, name):  # which one there is depends on the release
            monkeypatch.setattr(GPT2LMHeadModel, name, lambda self: None)
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel.*only with its dropout on"):
        make_policy(gradient_checkpointing=True)
