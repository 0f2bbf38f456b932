"""The hand-written limit computes what it is compared with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.systems.handwritten import (
    Handwritten,
    TokenLogProbs,
    generalised_advantages,
    sample,
)
from benchmarks.systems.plain_gpt2 import PlainGPT2
from benchmarks.workload import Workload, build_model

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
