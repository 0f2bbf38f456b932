"""The hand-written limit computes what it is compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.systems.handwritten import (
    Handwritten,
    TokenLogProbs,
    generalised_advantages,
    sample,
)
from benchmarks.systems.handwritten_ragged import HandwrittenRagged, read
from benchmarks.systems.plain_gpt2 import PlainGPT2
from benchmarks.workload import END, RAGGED, Workload, build_model

TINY = Workload(
    layers=2,
    width=32,
    heads=2,
    vocabulary=40,
    prompts=5,
    prompt_tokens=4,
    new_tokens=6,
    episodes=4,
    group_size=2,
    epochs=2,
    minibatch_episodes=2,
)
TINY_RAGGED = replace(
    TINY, **{**RAGGED, "new_tokens": 16, "episodes": 12, "minibatch_episodes": 6}, prompts=9
)


@pytest.fixture(scope="module")
def models():
    model = build_model(TINY).eval()
    return model, PlainGPT2.from_transformers(model)


@pytest.fixture
def ids():
    generator = torch.Generator().manual_seed(3)
    return torch.randint(TINY.vocabulary, (3, TINY.length), generator=generator)


@pytest.mark.parametrize("first", [0, 3])
def test_logits_equal_those_of_transformers(models, ids, first):
    model, plain = models
    with torch.no_grad():
        expected = model(ids).logits[:, first:]
        logits, values = plain(ids, first)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert values.shape == (3, TINY.length - first)
    assert not values.any()


def test_cached_decoding_equals_the_full_pass(models, ids):
    _, plain = models
    with torch.no_grad():
        plain.value_weight.normal_(generator=torch.Generator().manual_seed(0))
        expected, expected_values = plain(ids, 0)
        cache = plain.new_cache(3, TINY.length)
        steps = [plain.prefill(ids[:, :4], cache)]
        steps += [plain.step(ids[:, at], at, cache) for at in range(4, TINY.length)]
        plain.value_weight.zero_()
    logits, values = (torch.stack(parts, 1) for parts in zip(*steps, strict=True))
    torch.testing.assert_close(logits, expected[:, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(values, expected_values[:, 3:], atol=1e-5, rtol=0)


def test_token_log_probs_have_the_gradient_of_log_softmax():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(7, (2, 3), generator=generator)
    weights = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    expected = logits.log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), logits)
    found = TokenLogProbs.apply(logits, targets)
    (gradient,) = torch.autograd.grad((found * weights).sum(), logits)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_samples_follow_the_softmax():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    ids, log_probs = sample(logits.expand(20_000, 4), torch.Generator().manual_seed(0))
    frequencies = torch.bincount(ids, minlength=4) / len(ids)
    torch.testing.assert_close(frequencies, logits.softmax(0), atol=0.015, rtol=0)
    torch.testing.assert_close(log_probs, logits.log_softmax(0)[ids])


def test_advantages_equal_those_of_the_library():
    from llm_gym.learning.advantages import gae

    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 6, 3))  # (T, N) as in the library
    starts = np.zeros((6, 3), dtype=bool)
    starts[0] = True
    expected = gae(
        rewards, values, starts, np.zeros(3), np.ones(3, dtype=bool), gamma=0.9, gae_lambda=0.8
    )
    found = generalised_advantages(
        torch.from_numpy(rewards.T.copy()), torch.from_numpy(values.T.copy()), 0.9, 0.8
    )
    np.testing.assert_allclose(found.T, expected)


def test_the_ratio_starts_at_one_and_learning_changes_the_policy():
    system = Handwritten(TINY, seed=0)
    episodes = system.rollout()
    with torch.no_grad():
        log_probs, values = system._evaluate(system.model, episodes.ids)
    torch.testing.assert_close(log_probs, episodes.log_probs, atol=1e-5, rtol=0)
    torch.testing.assert_close(values, episodes.values, atol=1e-5, rtol=0)
    system.learn(episodes)
    with torch.no_grad():
        learnt, _ = system._evaluate(system.model, episodes.ids)
        reference, _ = system._evaluate(system.reference, episodes.ids)
    assert (learnt - log_probs).abs().max() > 1e-5
    torch.testing.assert_close(reference, log_probs)


def test_packed_rows_are_read_as_each_alone(models, ids):
    model, plain = models
    rows, firsts = [ids[0], ids[1, :5], ids[2, :2]], [0, 3, 1]
    with torch.no_grad():
        logits, values = read(plain, rows, firsts)
        alone = [
            model(row[None]).logits[0, first:] for row, first in zip(rows, firsts, strict=True)
        ]
    torch.testing.assert_close(logits, torch.cat(alone), atol=1e-4, rtol=0)
    assert values.shape == (len(logits),)


def test_ragged_answers_are_written_as_they_are_read():
    system = HandwrittenRagged(TINY_RAGGED, seed=0)
    with torch.no_grad():
        system.model.value_weight.normal_(generator=torch.Generator().manual_seed(0))
        answers = system.rollout()
        log_probs, values = system._evaluate(system.model, answers)
    torch.testing.assert_close(torch.cat(answers.log_probs), log_probs, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat(answers.values), values, atol=1e-5, rtol=0)
    written = [row[n:].tolist() for row, n in zip(answers.rows, answers.prompts, strict=True)]
    assert len({len(each) for each in written}) > 1
    assert all(END not in each[:-1] for each in written)
    assert all(each[-1] == END or len(each) == TINY_RAGGED.new_tokens for each in written)


def test_advantages_of_ragged_answers_are_those_of_equal_ones():
    system = HandwrittenRagged(TINY_RAGGED, seed=0)
    with torch.no_grad():
        system.model.value_weight.normal_(generator=torch.Generator().manual_seed(0))
        answers = system.rollout()
        reference = system._evaluate(system.reference, answers)[0]
    reference = reference.split([len(each) for each in answers.values])
    for row, advantages in enumerate(answers.advantages):
        rewards = -TINY_RAGGED.kl_coef * (answers.log_probs[row] - reference[row])
        rewards[-1] += system._score(answers, row)
        expected = generalised_advantages(
            rewards[None], answers.values[row][None], TINY_RAGGED.gamma, TINY_RAGGED.gae_lambda
        )
        torch.testing.assert_close(advantages, expected[0], atol=1e-6, rtol=1e-5)
