from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_gym.learning.kl import (
    AdaptiveKLController,
    FixedKLController,
    ScheduledKLController,
    kl_estimate,
)


@pytest.mark.parametrize("mu", [0.1, 1.0])
def test_estimators_have_schulmans_moments(mu):
    """q = N(0, 1) samples, p = N(mu, 1): KL = mu^2 / 2, std(k1) / KL = 2 / mu."""
    x = np.random.default_rng(0).normal(size=2_000_000)
    log_ratio = (-(x**2) + (x - mu) ** 2) / 2  # log q - log p
    kl = mu**2 / 2
    error = 5 * mu / np.sqrt(len(x))
    assert abs(kl_estimate(log_ratio, "k1").mean() - kl) < error
    assert abs(kl_estimate(log_ratio, "k3").mean() - kl) < error
    np.testing.assert_allclose(kl_estimate(log_ratio, "k1").std() / kl, 2 / mu, rtol=0.01)
    bias = kl_estimate(log_ratio, "k2").mean() / kl - 1
    np.testing.assert_allclose(bias, mu**2 / 4, atol=5 * error / kl)
    assert kl_estimate(log_ratio, "k3").min() >= -1e-12


def test_estimators_accept_tensors():
    log_ratio = torch.tensor([0.5, -0.25])
    expected = torch.tensor([np.exp(-0.5) - 1 + 0.5, np.exp(0.25) - 1 - 0.25])
    torch.testing.assert_close(kl_estimate(log_ratio, "k3"), expected.float())


@pytest.mark.parametrize("name", ["k4", "exact", "k", "k1.5", "k2.5", ""])
def test_unknown_estimator_is_named(name):
    with pytest.raises(ValueError, match=f"estimator='{name}' must be"):
        kl_estimate(np.zeros(1), name)


@pytest.mark.parametrize(("name", "value"), [("k1", 2.0), ("k2", 2.0), ("k3", np.exp(-2) + 1)])
def test_estimators_are_known_by_names_that_were_read(name, value):
    np.testing.assert_allclose(kl_estimate(np.full(1, 2.0), "".join(list(name))), value)


def test_adaptive_controller_golden_values():
    """Ziegler et al.: init 0.15, target 6, horizon 10,000, batches of 512 episodes."""
    controller = AdaptiveKLController(0.15, 6.0, 10_000)
    controller.update(12.0, 512)  # error clipped to +0.2
    np.testing.assert_allclose(controller.coef, 0.15 * (1 + 0.2 * 512 / 10_000))
    controller.update(0.0, 512)  # and to -0.2
    np.testing.assert_allclose(controller.coef, 0.15 * (1 + 0.01024) * (1 - 0.01024))
    before = controller.coef
    controller.update(6.6, 1000)  # error 0.1, unclipped
    np.testing.assert_allclose(controller.coef, before * 1.01)


def test_fixed_controller_stays():
    controller = FixedKLController(0.05)
    controller.update(100.0, 512)
    assert controller.coef == 0.05


def test_scheduled_controller_follows_its_schedule_alone():
    controller = ScheduledKLController(lambda remaining: 0.1 + 0.4 * remaining)
    assert controller.coef == 0.5
    controller.advance(0.25)
    controller.update(100.0, 512)
    assert controller.coef == pytest.approx(0.2)
    falls_below = ScheduledKLController(lambda remaining: remaining - 0.5)
    with pytest.raises(ValueError, match=r"kl_coef=-0.25"):
        falls_below.advance(0.25)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: ScheduledKLController(lambda remaining: float("inf")), "kl_coef"),
        (lambda: FixedKLController(-1.0), "kl_coef"),
        (lambda: FixedKLController(float("nan")), "kl_coef"),
        (lambda: AdaptiveKLController(0.0, 6.0), "kl_coef"),
        (lambda: AdaptiveKLController(0.1, 0.0), "kl_target"),
        (lambda: AdaptiveKLController(0.1, 6.0, 0), "kl_horizon"),
    ],
)
def test_bad_coefficients_name_themselves(build, name):
    with pytest.raises(ValueError, match=name):
        build()
