"""Bias and variance of gradient estimators, on estimators whose figures are known."""

from __future__ import annotations

import pytest
import torch
from llm_gym_known_optimum import estimator_figures


def samples(mean, noise, count=4000):
    generator = torch.Generator().manual_seed(0)
    return mean + noise * torch.randn(count, len(mean), generator=generator, dtype=torch.float64)


def test_an_unbiased_estimator():
    exact = torch.tensor([3.0, 4.0], dtype=torch.float64)
    figures = estimator_figures(samples(exact, 2.0), exact)
    assert figures.bias == pytest.approx(0, abs=2e-3)
    assert figures.direction_bias == pytest.approx(0, abs=2e-3)
    assert figures.scale == pytest.approx(1, abs=0.02)
    assert figures.noise == pytest.approx(2 * 4 / 25, rel=0.1)  # trace 8, squared length 25


def test_a_scaled_estimator_has_a_bias_but_none_in_direction():
    exact = torch.tensor([3.0, 4.0], dtype=torch.float64)
    figures = estimator_figures(samples(2 * exact, 2.0), exact)
    assert figures.scale == pytest.approx(2, abs=0.02)
    assert figures.bias == pytest.approx(1, abs=0.05)
    assert figures.direction_bias == pytest.approx(0, abs=2e-3)
    assert figures.noise == pytest.approx(8 / 100, rel=0.1)


def test_a_bias_across_the_gradient():
    exact = torch.tensor([1.0, 0.0], dtype=torch.float64)
    figures = estimator_figures(samples(torch.tensor([1.0, 0.5]), 0.1), exact)
    assert figures.direction_bias == pytest.approx(0.25, abs=0.01)
    assert figures.direction_bias_error == pytest.approx(2 * 0.5 * 0.1 / 4000**0.5, rel=0.2)
    assert figures.cosine == pytest.approx(1 / 1.25**0.5, abs=0.01)


def test_the_noise_of_the_mean_is_no_bias():
    """Averaged over repetitions, the bias of an unbiased estimator is zero with few samples too."""
    exact = torch.ones(50, dtype=torch.float64)
    draws = samples(exact, 3.0, count=2000).view(200, 10, 50)
    biases = [estimator_figures(ten, exact).bias for ten in draws]
    naive = [float(((ten.mean(0) - exact) ** 2).sum() / 50) for ten in draws]
    assert sum(naive) / 200 == pytest.approx(0.9, rel=0.1)
    assert sum(biases) / 200 == pytest.approx(0, abs=0.05)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="exact gradient is zero"):
        estimator_figures(torch.ones(4, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="K at least 3"):
        estimator_figures(torch.ones(2, 2), torch.ones(2))
