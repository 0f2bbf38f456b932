from __future__ import annotations

import math

import pytest
import torch

from llm_gym.learning.losses import (
    aggregate,
    clipped_surrogate_loss,
    exact_kl,
    kl_loss,
    policy_gradient_loss,
    ratio_figures,
)
from tests import listed_answers as lm


def test_policy_gradient_loss_golden_values():
    log_prob = torch.tensor([-1.0, -2.0], requires_grad=True)
    loss = policy_gradient_loss(log_prob, torch.tensor([3.0, -0.5]))
    torch.testing.assert_close(loss, torch.tensor([3.0, -1.0]))
    loss.sum().backward()
    torch.testing.assert_close(log_prob.grad, torch.tensor([-3.0, 0.5]))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (1.0, 2.0, -2.0, True),
        (1.25, 2.0, -2.5, True),  # above 1 + 0.2, below 1 + 0.3: clip-higher lets it grow
        (1.5, 2.0, -2.6, False),
        (0.5, 2.0, -1.0, True),  # got worse at something good: may always come back
        (0.5, -2.0, 1.6, False),
        (1.5, -2.0, 3.0, True),
    ],
)
def test_clipped_surrogate_golden_values(ratio, advantage, loss, moves):
    """The six cases of min(rho A, clip(rho, 0.8, 1.3) A), value and whether there is a gradient."""
    log_prob = torch.tensor([math.log(ratio) - 1.0], dtype=torch.float64, requires_grad=True)
    old = torch.tensor([-1.0], dtype=torch.float64)
    result = clipped_surrogate_loss(log_prob, old, torch.tensor([advantage]).double(), 0.2, 0.3)
    torch.testing.assert_close(result, torch.tensor([loss]).double())
    result.sum().backward()
    assert (log_prob.grad.abs().item() > 0) == moves


def test_clipped_surrogate_starts_as_the_policy_gradient():
    """At ratio 1 both have the same gradient: one epoch of PPO is A2C."""
    generator = torch.Generator().manual_seed(0)
    old, advantages = torch.randn(2, 20, generator=generator, dtype=torch.float64)
    clipped, plain = old.clone().requires_grad_(), old.clone().requires_grad_()
    clipped_surrogate_loss(clipped, old, advantages, 0.2, 0.2).sum().backward()
    policy_gradient_loss(plain, advantages).sum().backward()
    torch.testing.assert_close(clipped.grad, plain.grad)


def test_aggregation_golden_values():
    """An answer of one token with loss 6, one of three tokens with losses 1, 2, 3."""
    per_token, rows = torch.tensor([6.0, 1.0, 2.0, 3.0]), torch.tensor([0, 1, 1, 1])
    assert aggregate(per_token, rows, "token_mean").item() == 3.0
    assert aggregate(per_token, rows, "sequence_mean").item() == 4.0
    assert aggregate(per_token, rows, "constant", constant=4.0).item() == 1.5
    with pytest.raises(ValueError, match="aggregation='sum' must be one of"):
        aggregate(per_token, rows, "sum")


def test_ways_of_aggregation_are_known_by_their_names_alone():
    """Whoever read the name from a file means the same; names beside the known ones none."""
    per_token, rows = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0, 0, 1])
    for how, expected in {"token_mean": 3.0, "sequence_mean": 3.75, "constant": 1.125}.items():
        assert aggregate(per_token, rows, "".join(list(how)), constant=4.0) == expected
    with pytest.raises(TypeError, match="positional argument"):
        aggregate(per_token, rows, "constant", 4.0)
    for how in ("answer_mean", "sum", "zero", ""):
        with pytest.raises(ValueError, match=f"aggregation='{how}' must be one of"):
            aggregate(per_token, rows, how)


@pytest.mark.parametrize(
    ("clip_low", "clip_high", "fraction"),
    [(0.0, 0.0, 0.5), (0.5, 1.0, 0.0), (0.4, 1.0, 0.25), (0.5, 0.9, 0.25), (0.4, 0.9, 0.5)],
)
def test_a_ratio_at_the_clip_is_not_clipped(clip_low, clip_high, fraction):
    log_ratio = torch.tensor([1.0, 1.0, 0.5, 2.0], dtype=torch.float64).log()
    figures = ratio_figures(log_ratio, clip_low, clip_high)
    assert figures["clip_fraction"] == fraction
    assert figures["ratio_deviation"] == pytest.approx(1.0)


def test_exact_kl_equals_the_distributions_own_and_knows_cut_tokens():
    generator = torch.Generator().manual_seed(1)
    logits, reference = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=logits),
        torch.distributions.Categorical(logits=reference),
    )
    torch.testing.assert_close(exact_kl(logits, reference), expected)
    cut = torch.arange(7) >= 4
    logits = logits.requires_grad_()
    result = exact_kl(logits.masked_fill(cut, -torch.inf), reference.masked_fill(cut, -torch.inf))
    torch.testing.assert_close(result, exact_kl(logits[:, :4], reference[:, :4]))
    [grad] = torch.autograd.grad(result.sum(), logits)
    assert torch.isfinite(grad).all()


# ------------------------------------------------------------- gradients of KL losses


def expected_gradient(loss_of_answer, table):
    """Sum over all answers of probability times gradient of the loss."""
    weights = lm.probabilities(table).detach()
    return sum(p * lm.gradient(loss_of_answer(i), table) for i, p in enumerate(weights))


def state_gradients(table, divergence_of_state):
    """Gradients of a divergence in each state, by how often the state is visited (held fixed)."""
    visits = torch.stack([torch.ones(()).double(), *table.softmax(-1)[0, 1:]]).detach()
    return lm.gradient((visits * divergence_of_state).sum(), table)


@pytest.fixture(params=[0, 1, 2])
def tables(request):
    return lm.logits(request.param), lm.logits(request.param + 10).detach()


def token_loss(estimator, table, reference):
    return lambda i: kl_loss(
        lm.token_log_probs(table, i), lm.token_log_probs(reference, i), estimator
    ).sum()


def test_k1_in_the_loss_has_no_expected_gradient(tables):
    table, reference = tables
    result = expected_gradient(token_loss("k1", table, reference), table)
    torch.testing.assert_close(result, torch.zeros_like(table), atol=1e-12, rtol=0)


def test_k2_in_the_loss_is_the_gradient_of_each_states_divergence(tables):
    table, reference = tables
    result = expected_gradient(token_loss("k2", table, reference), table)
    torch.testing.assert_close(result, state_gradients(table, exact_kl(table, reference)))


def test_exact_in_the_loss_has_the_same_expectation_as_k2(tables):
    table, reference = tables
    result = expected_gradient(lambda i: exact_kl(table, reference)[lm.STATES[i]].sum(), table)
    torch.testing.assert_close(result, state_gradients(table, exact_kl(table, reference)))


def test_k3_in_the_loss_is_the_gradient_of_the_other_divergence(tables):
    """Of KL(pi_ref || pi) in each state, not of KL(pi || pi_ref)."""
    table, reference = tables
    result = expected_gradient(token_loss("k3", table, reference), table)
    torch.testing.assert_close(result, state_gradients(table, exact_kl(reference, table)))
    reverse = state_gradients(table, exact_kl(table, reference))
    assert (result - reverse).norm() > 0.05 * reverse.norm()


def test_k2_of_whole_answers_is_the_exact_gradient(tables):
    table, reference = tables

    def loss(i):
        sums = lm.token_log_probs(table, i).sum(), lm.token_log_probs(reference, i).sum()
        return kl_loss(*sums, "k2")

    exact = lm.gradient(lm.divergence(table, reference), table)
    torch.testing.assert_close(expected_gradient(loss, table), exact)
    by_token = expected_gradient(token_loss("k2", table, reference), table)
    assert (by_token - exact).norm() > 0.01 * exact.norm()  # what tokens lead to is not in it


@pytest.mark.parametrize(("estimator", "is_exact"), [("k1", True), ("k2", False), ("k3", False)])
def test_only_k1_in_the_reward_is_the_exact_gradient(tables, estimator, is_exact):
    """-KL as token rewards, rewards to go: sum_t grad log pi_t * sum_{u >= t} -x_u."""
    table, reference = tables

    def loss(i):
        log_prob = lm.token_log_probs(table, i)
        penalty = kl_loss(log_prob, lm.token_log_probs(reference, i), estimator).detach()
        return policy_gradient_loss(log_prob, -penalty.flip(0).cumsum(0).flip(0)).sum()

    exact = lm.gradient(lm.divergence(table, reference), table)
    error = (expected_gradient(loss, table) - exact).norm() / exact.norm()
    assert error < 1e-12 if is_exact else error > 0.05
