"""Gradient estimators against the exact gradient: bias, variance, direction."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch

__all__ = ["EstimatorFigures", "estimator_figures"]


@dataclass(frozen=True)
class EstimatorFigures:
    """What K samples of a gradient estimator say about it; `g` is the exact gradient.

    Squared lengths of means of K samples contain the noise of the mean; it is taken out, so that
    an estimator without bias has a bias of about 0 (and as often slightly below as above).

    Attributes:
        samples: K.
        scale: The factor by which the mean is best explained: `<mean, g> / |g|^2`. Estimators
            that divide by a standard deviation are longer than the gradient, with no harm done.
        bias: `|mean - g|^2 / |g|^2`.
        direction_bias: The same after dividing the estimator by its `scale`: bias that no learning
            rate can undo.
        direction_bias_error: Standard error of `direction_bias`, by jackknife over samples.
        cosine: Between the mean and g.
        noise: Trace of the estimator's covariance over the squared length of its scaled gradient:
            the relative variance of one sample.
    """

    samples: int
    scale: float
    bias: float
    direction_bias: float
    direction_bias_error: float
    cosine: float
    noise: float

    def as_dict(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


def estimator_figures(samples: torch.Tensor, exact: torch.Tensor) -> EstimatorFigures:
    """Compares independent samples of a gradient estimator with the exact gradient.

    Args:
        samples: float `(K, D)`, K at least 3.
        exact: float `(D,)`, not zero.

    Raises:
        ValueError: Shapes do not fit, or there is nothing to compare with.
    """
    if samples.ndim != 2 or len(samples) < 3 or samples.shape[1:] != exact.shape:
        raise ValueError(
            f"samples must be (K, D) with K at least 3 and exact (D,), got shapes "
            f"{tuple(samples.shape)} and {tuple(exact.shape)}"
        )
    draws, g = samples.double().cpu().numpy(), exact.double().cpu().numpy()
    length = float(g @ g)
    if not length > 0:
        raise ValueError("the exact gradient is zero, so nothing can be relative to it")
    # Everything follows from sums of inner products, also with one sample left out.
    total = draws.sum(0)  # (D,)
    squares = (draws**2).sum(1)  # (K,)
    with_total, along = draws @ total, draws @ g  # (K,), (K,)
    count, summed, whole, progress = len(draws), squares.sum(), total @ total, along.sum()
    scale, bias, direction, cosine, noise = _figures(count, summed, whole, progress, length)
    left_out = [
        _figures(count - 1, summed - square, whole - 2 * shared + square, progress - step, length)
        for square, shared, step in zip(squares, with_total, along, strict=True)
    ]
    error = math.sqrt(np.var([figures[2] for figures in left_out]) * (count - 1))
    return EstimatorFigures(count, scale, bias, direction, error, cosine, noise)


def _figures(
    count: int, squares: float, whole: float, progress: float, length: float
) -> tuple[float, float, float, float, float]:
    """Scale, bias, direction bias, cosine and noise.

    Args:
        count: Samples.
        squares: Sum of their squared lengths.
        whole: Squared length of their sum.
        progress: Inner product of their sum with the exact gradient.
        length: Squared length of the exact gradient.
    """
    mean_square = whole / count**2
    variance = (squares / count - mean_square) * count / (count - 1)  # trace of the covariance
    true_square = mean_square - variance / count  # without the noise of the mean
    scale = float(progress / count / length)
    bias = float((true_square - 2 * scale * length + length) / length)
    signal = scale**2 * length
    if not signal > 0:
        return scale, bias, math.inf, 0.0, math.inf
    cosine = scale * math.sqrt(length / mean_square)
    return scale, bias, float((true_square - signal) / signal), cosine, float(variance / signal)
