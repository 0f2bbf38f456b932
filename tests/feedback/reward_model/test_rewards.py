"""The losses of rewards against numbers computed by hand, chosen and rejected swapped."""

from __future__ import annotations

import math

import pytest
import torch

from llm_gym.feedback.reward_model import bradley_terry_loss, centring_penalty, rating_loss

CHOSEN, REJECTED = torch.tensor([1.0, 0.0, -2.0]), torch.tensor([0.0, 0.0, 1.0])


def softplus(x):
    return math.log(1 + math.exp(x))


def test_the_loss_is_the_mean_of_minus_log_sigma():
    expected = (softplus(-1) + math.log(2) + softplus(3)) / 3
    assert bradley_terry_loss(CHOSEN, REJECTED).item() == pytest.approx(expected)


def test_a_margin_is_taken_off_the_difference():
    expected = (softplus(0.5 - 1) + softplus(2) + softplus(3)) / 3
    margin = torch.tensor([0.5, 2.0, 0.0])
    assert bradley_terry_loss(CHOSEN, REJECTED, margin=margin).item() == pytest.approx(expected)
    at_margin = bradley_terry_loss(torch.tensor([2.0]), torch.tensor([0.5]), margin=1.5)
    assert at_margin.item() == pytest.approx(math.log(2))


def test_weights_weigh():
    weights = torch.tensor([3.0, 1.0, 0.0])
    expected = (3 * softplus(-1) + math.log(2)) / 4
    assert bradley_terry_loss(CHOSEN, REJECTED, weights=weights).item() == pytest.approx(expected)
    assert centring_penalty(CHOSEN, REJECTED, weights).item() == pytest.approx(3 / 4)
    assert rating_loss(CHOSEN, REJECTED, weights).item() == pytest.approx(3 / 4)


def test_the_gradient_is_the_probability_of_being_wrong():
    chosen = CHOSEN.clone().requires_grad_()
    (3 * bradley_terry_loss(chosen, REJECTED)).backward()
    expected = torch.sigmoid(CHOSEN - REJECTED) - 1
    torch.testing.assert_close(chosen.grad, expected)


def test_swapping_chosen_and_rejected_turns_the_gradient_around():
    """A loss that does not see which is which would pass any test of its size at init."""
    rewards = torch.tensor([0.7, -0.2], requires_grad=True)
    gradients = [
        torch.autograd.grad(bradley_terry_loss(rewards[a : a + 1], rewards[b : b + 1]), rewards)[0]
        for a, b in ((0, 1), (1, 0))
    ]
    assert gradients[0][0] < 0 < gradients[0][1]
    assert gradients[1][0] > 0 > gradients[1][1]
    wrong = 1 / (1 + math.exp(0.9))
    assert gradients[0].tolist() == pytest.approx([-wrong, wrong])
    assert gradients[1].tolist() == pytest.approx([1 - wrong, wrong - 1])


def test_the_two_rows_of_a_tie_want_equal_rewards():
    difference = torch.tensor([0.4], requires_grad=True)
    zero, half = torch.zeros(1), torch.tensor([0.5])

    def tie(value):
        there = bradley_terry_loss(value, zero, weights=half)
        return there + bradley_terry_loss(zero, value, weights=half)

    assert torch.autograd.grad(tie(difference), difference)[0] > 0
    assert torch.autograd.grad(tie(-difference), difference)[0] > 0
    assert torch.autograd.grad(tie(0 * difference), difference)[0] == 0


def test_the_penalty_is_the_squared_sum_of_the_two_rewards():
    assert centring_penalty(CHOSEN, REJECTED).item() == pytest.approx((1 + 0 + 1) / 3)
    shifted = bradley_terry_loss(CHOSEN + 5, REJECTED + 5)
    assert shifted.item() == pytest.approx(bradley_terry_loss(CHOSEN, REJECTED).item())
    assert centring_penalty(CHOSEN + 5, REJECTED + 5) > centring_penalty(CHOSEN, REJECTED)


def test_ratings_are_fitted_by_least_squares():
    assert rating_loss(CHOSEN, REJECTED).item() == pytest.approx((1 + 0 + 9) / 3)
