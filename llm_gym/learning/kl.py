"""Divergence from a reference policy: estimators, and the coefficient of the penalty.

Everything is in nats. With `log_ratio = log pi(a|s) - log pi_ref(a|s)` of a sampled token, the
penalised reward is `r_t - beta * log_ratio_t`: raising the probability of a token above the
reference's *lowers* its reward. The divergence of an episode is the *sum* over its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Array = TypeVar("Array", "torch.Tensor", NDArray[np.floating])


def kl_estimate(log_ratio: Array, estimator: str = "k1") -> Array:
    """Single-sample estimates of `KL(pi || pi_ref)` from samples of `pi`.

    J. Schulman, "Approximating KL divergence", http://joschu.net/blog/kl-approx.html, writes
    `r = pi_ref / pi`; here `log_ratio = -log r`.

    Args:
        log_ratio: `log pi - log pi_ref` of the sampled tokens, any shape.
        estimator: `"k1"` (unbiased, may be negative): `log_ratio`; `"k2"` (biased, low
            variance): `log_ratio^2 / 2`; `"k3"` (unbiased, never negative):
            `exp(-log_ratio) - 1 + log_ratio`.

    Returns:
        Estimates of the same shape.

    Raises:
        ValueError: If the estimator is unknown.
    """
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return log_ratio**2 / 2
    if estimator == "k3":
        exp = np.exp if isinstance(log_ratio, np.ndarray) else type(log_ratio).exp
        return exp(-log_ratio) - 1 + log_ratio
    raise ValueError(f"estimator={estimator!r} must be 'k1', 'k2' or 'k3'")


class FixedKLController:
    """A penalty coefficient that stays what it is.

    Args:
        coef: The coefficient beta, >= 0.

    Attributes:
        coef: What a rollout pays per nat.

    Raises:
        ValueError: If the coefficient is negative or not finite.
    """

    def __init__(self, coef: float) -> None:
        self.coef = _checked("kl_coef", coef, minimum=0.0)

    def advance(self, progress_remaining: float) -> None:
        """Leaves the coefficient alone."""

    def update(self, kl_per_sequence: float, n_episodes: int) -> None:
        """Leaves the coefficient alone."""


class ScheduledKLController(FixedKLController):
    """A penalty coefficient that follows a schedule, as a learning rate does.

    Falling to beta from several times as much keeps the policy near the reference while little is
    known of the rewards, so that it finds more of what pays before it gives anything up
    (`docs/algorithms.md` has what that is worth).

    Args:
        schedule: Function of the share of training that remains, from 1 to 0, such as
            `lambda remaining: 0.1 + 0.4 * max(0.0, 2 * remaining - 1)`.

    Raises:
        ValueError: If it returns something negative or not finite.
    """

    def __init__(self, schedule: Callable[[float], float]) -> None:
        super().__init__(schedule(1.0))
        self.schedule = schedule

    def advance(self, progress_remaining: float) -> None:
        """Takes the coefficient of the rollout that has just ended from the schedule.

        Args:
            progress_remaining: From 1 (the beginning of training) to 0.
        """
        self.coef = _checked("kl_coef", self.schedule(progress_remaining), minimum=0.0)


class AdaptiveKLController(FixedKLController):
    """A penalty coefficient that steers the divergence to a target.

    Ziegler et al. (2019), arXiv 1909.08593, section 2.2: `e = clip(KL / target - 1, -0.2, 0.2)`
    and `beta *= 1 + e * n_episodes / horizon`; their code starts at 0.15 with target 6 nats
    and horizon 10,000 episodes.

    Args:
        coef: Initial coefficient, > 0 (a product never leaves zero).
        target: Target divergence in nats *per sequence*.
        horizon: Episodes over which a clipped error of 1 would double the coefficient.

    Raises:
        ValueError: If an argument is not positive and finite.
    """

    def __init__(self, coef: float, target: float, horizon: int = 10_000) -> None:
        super().__init__(_checked("kl_coef", coef, minimum=0.0, strict=True))
        self.target = _checked("kl_target", target, minimum=0.0, strict=True)
        self.horizon = _checked("kl_horizon", horizon, minimum=0.0, strict=True)

    def update(self, kl_per_sequence: float, n_episodes: int) -> None:
        """Moves the coefficient after a batch.

        Args:
            kl_per_sequence: Mean over episodes of the summed log-ratios, in nats.
            n_episodes: Number of episodes in the batch.
        """
        error = min(max(kl_per_sequence / self.target - 1.0, -0.2), 0.2)
        self.coef *= 1.0 + error * n_episodes / self.horizon


def _checked(name: str, value: float, *, minimum: float, strict: bool = False) -> float:
    value = float(value)
    if not math.isfinite(value) or value < minimum or (strict and value == minimum):
        relation = ">" if strict else ">="
        raise ValueError(f"{name}={value!r} must be a finite number {relation} {minimum:g}")
    return value
