"""Decoding from what is kept of earlier tokens gives what plain passes give, whatever rows do."""

from __future__ import annotations

import random

import pytest
import torch

from llm_gym.policy import EpisodeBatch
from llm_gym.testing.tiny import ARCHITECTURES, tiny_model
from tests.products import sampled

from .conftest import DIFFERENT, VOCABULARY, naive_log_probs, observe, play, tokens_read


@pytest.mark.parametrize("architecture", sampled(sorted(ARCHITECTURES), *DIFFERENT))
def test_cached_decoding_equals_the_plain_forward_pass(make_policy, architecture):
    """Rows of different lengths, growing and starting anew, to 1e-5."""
    policy = make_policy(architecture)
    plain = tiny_model(architecture)
    for rows in play(seed=1):
        with torch.no_grad():
            actions, _, log_probs = policy(observe(rows))
        expected = torch.stack(
            [naive_log_probs(plain, r)[a] for r, a in zip(rows, actions, strict=True)]
        )
        torch.testing.assert_close(log_probs, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_rows_may_grow_by_any_number_of_tokens(make_policy, architecture):
    """Beside others that grow by one, by none or become shorter."""
    policy = make_policy(architecture)
    first = [[3, 4], [5, 6, 7], [8, 9], [4, 4, 4]]
    then = [[3, 4, 10, 11, 12], [5, 6, 7, 8], [8, 9], [4, 4]]
    for rows in (first, then):
        with torch.no_grad():
            actions, _, log_probs = policy(observe(rows))
        expected = [naive_log_probs(policy.model, r)[a] for r, a in zip(rows, actions, strict=True)]
        torch.testing.assert_close(log_probs, torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_rows_may_be_left_out_of_decoding(make_policy, architecture, monkeypatch):
    """In any order; the others go on a token at a time, as if they had been alone."""
    policy, plain = make_policy(architecture), tiny_model(architecture)
    rng, widths = random.Random(3), []
    decode = policy.actor_trunk._forward
    monkeypatch.setattr(
        policy.actor_trunk,
        "_forward",
        lambda tokens, **kwargs: (widths.append(tokens.shape[1]), decode(tokens, **kwargs))[1],
    )
    rows = [[rng.randrange(VOCABULARY) for _ in range(n)] for n in (3, 1, 5, 2, 4, 2)]
    for left in (range(6), [0, 5, 2, 3], [3, 1, 0], [0, 1, 2], [2]):
        if len(left) < 6:
            policy.keep_rows(torch.tensor(list(left)))
        rows = [[*rows[i], rng.randrange(VOCABULARY)] for i in left]
        with torch.no_grad():
            actions, _, log_probs = policy(observe(rows))
        expected = [naive_log_probs(plain, r)[a] for r, a in zip(rows, actions, strict=True)]
        torch.testing.assert_close(log_probs, torch.stack(expected), atol=1e-5, rtol=0)
    assert widths[1:] == [1] * 4


def test_a_wrong_word_about_rows_costs_time_alone(make_policy):
    policy = make_policy()
    rows = [[3, 4], [5, 6, 7], [8, 9]]
    with torch.no_grad():
        policy(observe(rows))
        policy.keep_rows(torch.tensor([2, 0]))
        then = [[5, 6, 7, 1], [3, 4, 2]]
        actions, _, log_probs = policy(observe(then))
        policy.keep_rows(torch.tensor([0, 7]))  # there is no such row
        again = policy(observe(then), deterministic=True)[2]
    expected = [naive_log_probs(policy.model, r) for r in then]
    picked = torch.stack([e[a] for e, a in zip(expected, actions, strict=True)])
    torch.testing.assert_close(log_probs, picked, atol=1e-5, rtol=0)
    best = torch.stack([e.max() for e in expected])
    torch.testing.assert_close(again, best, atol=1e-5, rtol=0)


def test_a_change_of_weights_empties_the_cache(make_policy):
    """By optimizers, by load_state_dict and by replaced storage alike."""
    policy = make_policy()
    row = [3, 4, 5]

    def check() -> None:
        with torch.no_grad():
            action, _, log_prob = policy(observe([row]))
        expected = naive_log_probs(policy.model, row)[action]
        torch.testing.assert_close(log_prob, expected, atol=1e-5, rtol=0)
        row.append(int(action))

    check()
    loss = policy.evaluate_actions(observe([row[:-1]]), torch.tensor([row[-1]]))[1].sum()
    for group in policy.optimizer.param_groups:
        group["lr"] = 0.1
    loss.backward()
    policy.optimizer.step()
    check()
    policy.load_state_dict({k: v * 1.1 for k, v in policy.state_dict().items()})
    check()
    for parameter in policy.model.parameters():
        parameter.data = parameter.data * 0.9
    check()


def test_cache_reads_one_token_at_a_time(make_policy, monkeypatch):
    """What is cached is not read again: the promise behind the speed."""
    policy = make_policy()
    read = tokens_read(policy, monkeypatch)
    with torch.no_grad():
        policy(observe([[3, 4, 5], [6, 7]]))
        policy(observe([[3, 4, 5, 8], [6, 7, 9]]))
        policy.predict_values(observe([[3, 4, 5, 8], [6, 7, 9]]))  # nothing new
        policy(observe([[3, 4, 5, 8, 8], [9, 9, 9, 9]]))  # a row that started anew
    assert read == [(2, 3), (2, 1), (1, 4), (2, 1)]


def test_value_of_a_final_observation_leaves_the_cache_alone(make_policy, monkeypatch):
    """SB3 asks for single final observations in the middle of a rollout."""
    policy = make_policy()
    with torch.no_grad():
        policy(observe([[3, 4], [5, 6]]))
        policy.predict_values(observe([[9, 9, 9]]))
        read = tokens_read(policy, monkeypatch)
        policy(observe([[3, 4, 1], [5, 6, 1]]))
    assert read == [(2, 1)]


def test_separate_critic_has_its_own_cache(make_policy):
    policy = make_policy(separate_critic=True)
    with torch.no_grad():
        for parameter in policy.critic.parameters():
            parameter.mul_(1.3)
        for rows in play(seed=3, n_steps=10):
            actions, values, _ = policy(observe(rows))
            expected, _, _ = policy.evaluate_actions(
                EpisodeBatch(
                    torch.cat(
                        [observe(rows)["input_ids"], torch.zeros(4, 1, dtype=torch.int64)], 1
                    ),
                    torch.arange(4),
                    torch.tensor([len(r) for r in rows]),
                ),
                actions,
            )
            torch.testing.assert_close(values, expected, atol=1e-5, rtol=0)


def test_prefix_cache_can_be_switched_off(make_policy):
    cached, plain = make_policy(), make_policy(prefix_cache=False)
    for rows in play(seed=5, n_steps=6):
        with torch.no_grad():
            a, b = cached(observe(rows)), plain(observe(rows))
        torch.testing.assert_close(a[1], b[1], atol=1e-5, rtol=0)
