"""DPO's loss against hand-computed numbers and against optima that are known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from llm_gym.learning.losses import check_loss_settings, dpo_loss

# log-probabilities of two pairs under policy and reference
OURS = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -1.0])
REFERENCE = torch.tensor([-1.5, -2.5]), torch.tensor([-2.0, -2.0])
H = (1.5, -0.5)  # (-1 + 1.5) - (-3 + 2), (-2 + 2.5) - (-1 + 2)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_sigmoid_loss_by_hand():
    result = dpo_loss(*OURS, *REFERENCE, beta=0.2, loss="".join(["sig", "moid"]))
    np.testing.assert_allclose(result.losses, [-math.log(sigmoid(0.2 * h)) for h in H], rtol=1e-6)
    np.testing.assert_allclose(result.chosen_rewards, [0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(result.rejected_rewards, [-0.2, 0.2], rtol=1e-6)


@pytest.mark.parametrize("loss", ["hinge", "", "simpo", "zero"])
def test_a_loss_of_no_known_name_is_refused(loss):
    with pytest.raises(ValueError, match="must be one of sigmoid, ipo"):
        dpo_loss(*OURS, *REFERENCE, loss=loss)


def test_doubt_is_the_expectation_over_a_label_that_may_be_wrong():
    """Swapping the answers with probability 0.1, computed by calling it both ways."""
    for loss in ("sigmoid", "ipo"):
        plain = dpo_loss(*OURS, *REFERENCE, loss=loss).losses
        swapped = dpo_loss(*OURS[::-1], *REFERENCE[::-1], loss=loss).losses
        expected = 0.9 * plain + 0.1 * swapped
        result = dpo_loss(*OURS, *REFERENCE, loss=loss, label_smoothing=0.1).losses
        torch.testing.assert_close(result, expected)
        each = dpo_loss(*OURS, *REFERENCE, loss=loss, label_smoothing=torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(each.losses, torch.stack([plain[0], swapped[1]]))


def test_settings_of_the_loss_are_given_by_name():
    with pytest.raises(TypeError, match="positional argument"):
        dpo_loss(*OURS, *REFERENCE, 0.2)


def test_ipo_by_hand():
    result = dpo_loss(*OURS, *REFERENCE, beta=0.25, loss="".join(["i", "po"]))
    np.testing.assert_allclose(result.losses, [(1.5 - 2) ** 2, (-0.5 - 2) ** 2], rtol=1e-6)


def test_loss_at_the_start_is_log_2_whatever_beta():
    start = dpo_loss(*REFERENCE, *REFERENCE, beta=3.0)
    np.testing.assert_allclose(start.losses, math.log(2), rtol=1e-6)


# ------------------------------------------------------------------ optima on a listed world

BETA = 0.4


@pytest.fixture
def world():
    """Eight answers: reference probabilities and rewards; float64."""
    rng = np.random.default_rng(0)
    reference = torch.tensor(rng.dirichlet(np.ones(8)))
    return reference, torch.tensor(rng.normal(size=8))


def optimum(reference, preference, loss):
    """Minimises the expected loss over all pairs of reference answers, by L-BFGS on logits."""
    logits = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    first, second = torch.cartesian_prod(torch.arange(8), torch.arange(8)).unbind(1)
    weight = reference[first] * reference[second]
    log_reference = reference.log()
    solver = torch.optim.LBFGS(
        [logits], max_iter=2000, tolerance_grad=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        solver.zero_grad()
        log_policy = logits.log_softmax(0)
        terms = dpo_loss(
            log_policy[first],
            log_policy[second],
            log_reference[first],
            log_reference[second],
            beta=BETA,
            label_smoothing=1 - preference[first, second],
            loss=loss,
        )
        value = (weight * terms.losses).sum()
        value.backward()
        return value

    solver.step(closure)
    return logits.detach().softmax(0)


def test_optimum_is_that_of_reinforcement_learning_with_the_same_penalty(world):
    """With exact Bradley-Terry preferences: pi* = pi_ref exp(r / beta) / Z, to 1e-4."""
    reference, reward = world
    preference = torch.sigmoid(reward[:, None] - reward[None, :])
    expected = reference * (reward / BETA).exp()
    result = optimum(reference, preference, "sigmoid")
    np.testing.assert_allclose(result, expected / expected.sum(), atol=1e-4)


def test_optimum_of_ipo_tilts_by_the_probability_of_preference(world):
    """pi* = pi_ref exp(p(y beats the reference) / beta) / Z (Azar et al., equations 8 and 10)."""
    reference, reward = world
    preference = torch.sigmoid(3 * (reward[:, None] - reward[None, :]))
    expected = reference * ((preference @ reference) / BETA).exp()
    result = optimum(reference, preference, "ipo")
    np.testing.assert_allclose(result, expected / expected.sum(), atol=1e-4)


def test_ipo_stays_bounded_where_preferences_are_certain_and_dpo_does_not(world):
    reference, reward = world
    certain = (reward[:, None] > reward[None, :]).double()
    certain += torch.eye(8) / 2
    log_ratio = {
        loss: (optimum(reference, certain, loss) / reference).log() for loss in ("sigmoid", "ipo")
    }
    spread = {loss: float(ratio.max() - ratio.min()) for loss, ratio in log_ratio.items()}
    assert spread["ipo"] <= 1 / BETA + 1e-4
    assert spread["sigmoid"] > 10 / BETA


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((0.0, 0.0, "sigmoid"), "beta=0.0"),
        ((float("inf"), 0.0, "sigmoid"), "beta=inf"),
        ((0.1, 0.5, "sigmoid"), "label_smoothing=0.5"),
        ((0.1, 0.0, "hinge"), "loss='hinge' must be one of 'sigmoid', 'ipo'"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        check_loss_settings(*settings)
