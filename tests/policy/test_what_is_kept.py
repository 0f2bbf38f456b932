"""A trunk keeps copies: nobody can change what it has read, nor it what it has handed out."""

from __future__ import annotations

import pytest
import torch

from llm_gym.policy import EpisodeBatch

from .conftest import VOCABULARY, naive_log_probs, observe


@torch.no_grad()
def log_probs(policy, obs) -> torch.Tensor:
    return policy.get_distribution(obs).distribution.logits.log_softmax(-1)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_observations_that_are_written_over_are_read_anew(make_policy, architecture):
    """Environments that fill the same arrays at every step."""
    policy = make_policy(architecture)
    obs = observe([[3, 4, 5], [6, 7]])
    log_probs(policy, obs)
    obs["input_ids"][0, 1] = 9
    obs["input_ids"][1, 2], obs["attention_mask"][1, 2] = 8, 1
    expected = [naive_log_probs(policy.model, row) for row in ([3, 9, 5], [6, 7, 8])]
    torch.testing.assert_close(log_probs(policy, obs), torch.stack(expected), atol=1e-5, rtol=0)


@torch.no_grad()
def test_hidden_states_that_are_written_over_stay_right(make_policy):
    trunk = make_policy().actor_trunk
    ids, lengths = observe([[3, 4, 5], [6, 7]])["input_ids"], torch.tensor([3, 2])
    first = trunk.last_hidden(ids, lengths)
    expected = first.clone()
    first.zero_()
    assert torch.equal(trunk.last_hidden(ids, lengths), expected)


@pytest.mark.parametrize("last", [6, 0])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "mistral", "gemma2"])
def test_rows_that_shrink_wait_or_begin_anew_are_right(make_policy, architecture, last):
    """Also where the token that is gone is the one that padding is replaced by."""
    policy = make_policy(architecture)
    plays = [
        [[3, 4, 5, last], [6, 7], [9]],
        [[3, 4, 5], [6, 7], [9, 9]],  # shorter; as it was; longer
        [[3, 4, 5], [6, 7, 8], [4]],
        [[3, 4, 5, 9], [6, 7, 8, 9], [4, 4]],
        [[3, 4], [6, 7, 8, 9], [4, 4, 4]],
    ]
    for rows in plays:
        expected = torch.stack([naive_log_probs(policy.model, row) for row in rows])
        found = log_probs(policy, observe(rows))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_row_that_waits_has_the_same_numbers_to_the_last_bit(make_policy, architecture):
    """Reading its last token again would give others, by rounding."""
    trunk = make_policy(architecture).actor_trunk
    waits, grows = [3, 4, 5, 9, 8, 7, 6, 5, 4], [6, 7]
    first = None
    for token in (8, 9, 3, 5, 4, 6, 7, 9):
        rows = [waits, grows]
        found = trunk.last_hidden(observe(rows)["input_ids"], torch.tensor([*map(len, rows)]))
        first = found.clone() if first is None else first
        assert torch.equal(found[0], first[0]), grows
        grows = [*grows, token]


def test_a_pad_id_that_no_model_knows_is_never_looked_up(make_policy):
    policy, rows = make_policy(), [[3, 4, 5], [6]]
    expected = log_probs(policy, observe(rows))
    found = log_probs(policy, observe(rows, pad=VOCABULARY + 100))
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    actions = torch.tensor([1, 2])
    update = policy.evaluate_actions(observe(rows, pad=VOCABULARY + 100), actions)[1]
    torch.testing.assert_close(update.detach(), expected[[0, 1], actions], atol=1e-5, rtol=0)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_an_update_in_bfloat16_leaves_attention_as_it_was(make_policy, implementation):
    policy = make_policy("llama", mixed_precision="bf16", attn_implementation=implementation)
    batch = EpisodeBatch(torch.tensor([[5, 6, 7, 8]]), torch.tensor([0, 0]), torch.tensor([2, 3]))
    policy.evaluate_actions(batch, batch.actions)
    assert policy.model.config._attn_implementation == implementation


def test_checkpointed_layers_are_back_in_evaluation_mode(make_policy):
    policy = make_policy("llama")
    policy.model.gradient_checkpointing_enable()
    batch = EpisodeBatch(torch.tensor([[5, 6, 7, 8]]), torch.tensor([0, 0]), torch.tensor([2, 3]))
    policy.evaluate_actions(batch, batch.actions)[1].sum().backward()
    assert not any(module.training for module in policy.model.modules())


def test_checkpointed_layers_that_drop_by_a_number_of_their_own_drop_nothing(make_policy):
    """OPT's layers ask `self.training` and `self.dropout`; other numbers of theirs stay."""
    config = {"dropout": 0.5, "attention_dropout": 0.5, "layerdrop": 0.0}
    policy = make_policy("opt", config=config)
    batch = EpisodeBatch(torch.tensor([[5, 6, 7, 8]]), torch.tensor([0, 0]), torch.tensor([2, 3]))
    expected = policy.evaluate_actions(batch, batch.actions)[1]
    policy.model.gradient_checkpointing_enable()
    for layer in policy.model.model.decoder.layers:
        layer.scale = 0.25
    found = policy.evaluate_actions(batch, batch.actions)[1]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert all(layer.scale == 0.25 for layer in policy.model.model.decoder.layers)


def test_modules_that_are_added_later_compute_in_evaluation_mode(make_policy):
    """An adapter with dropout, put in after a token was read."""
    policy = make_policy()
    rows, actions = [[3, 4, 5], [6, 7]], torch.tensor([5, 9])
    log_probs(policy, observe(rows))
    expected = policy.evaluate_actions(observe(rows), actions)[1]
    block = policy.model.transformer.h[0]
    block.mlp = torch.nn.Sequential(block.mlp, torch.nn.Dropout(0.5))
    assert block.mlp.training
    found = policy.evaluate_actions(observe(rows), actions)[1]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    kept = torch.stack([naive_log_probs(policy.model, row) for row in rows])
    torch.testing.assert_close(log_probs(policy, observe(rows)), kept, atol=1e-5, rtol=0)


def shapes_read(policy, monkeypatch) -> list[tuple[int, ...]]:
    read: list[tuple[int, ...]] = []
    forward = policy.model.transformer.forward

    def spy(*args, **kwargs):
        read.append(tuple((*args, kwargs.get("input_ids"))[0].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(policy.model.transformer, "forward", spy)
    return read


def test_what_was_read_is_not_read_again(make_policy, monkeypatch):
    policy = make_policy()
    read = shapes_read(policy, monkeypatch)
    for _ in range(3):
        log_probs(policy, observe([[3, 4, 5], [6, 7]]))
    assert read == [(2, 3)]


def test_an_update_between_two_tokens_leaves_the_cache_alone(make_policy, monkeypatch):
    """Nothing was stepped, so nothing is stale; and nothing with a gradient is kept."""
    policy = make_policy()
    read = shapes_read(policy, monkeypatch)
    log_probs(policy, observe([[3, 4, 5], [6, 7]]))
    policy.evaluate_actions(observe([[9, 9, 9], [8, 8, 8]]), torch.tensor([1, 2]))
    found = log_probs(policy, observe([[3, 4, 5, 6], [6, 7, 8]]))
    assert read == [(2, 3), (2, 3), (2, 1)]
    expected = [naive_log_probs(policy.model, row) for row in ([3, 4, 5, 6], [6, 7, 8])]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)
    assert not found.requires_grad


@pytest.mark.parametrize("separate_critic", [False, True])
@pytest.mark.parametrize("detach_value", [False, True])
def test_the_value_loss_moves_the_transformer_it_may(make_policy, separate_critic, detach_value):
    """A critic of its own always; a shared one unless it is detached; the actor of two never."""
    policy = make_policy(separate_critic=separate_critic, detach_value=detach_value)
    batch = EpisodeBatch(torch.tensor([[5, 6, 7, 8]]), torch.tensor([0, 0]), torch.tensor([2, 3]))
    policy.evaluate_actions(batch, batch.actions)[0].sum().backward()

    def moves(module) -> bool:
        return any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())

    assert moves(policy.value_head)
    assert moves(policy.model) == (not separate_critic and not detach_value)
    if separate_critic:
        assert moves(policy.critic)


def test_pretrained_weights_do_not_decay_by_default(make_policy):
    policy = make_policy()
    assert isinstance(policy.optimizer, torch.optim.AdamW)
    assert {group["weight_decay"] for group in policy.optimizer.param_groups} == {0.0}
