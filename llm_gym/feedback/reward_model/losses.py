"""The losses of a reward model, as pure functions of its rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["bradley_terry_loss", "centring_penalty", "rating_loss"]


def bradley_terry_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    *,
    margin: torch.Tensor | float = 0.0,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean of `-log sigma(chosen - rejected - margin)`, in nats.

    It is the negative log-likelihood of the comparisons if the chosen answer wins with probability
    `sigma(chosen - rejected)` (Bradley and Terry 1952, doi:10.2307/2334029). A tie is two rows, one
    in each direction, of half the weight each: its least loss is at equal rewards.

    Args:
        chosen: float (B,), rewards of the preferred answers.
        rejected: float (B,), rewards of the others.
        margin: float (B,) or a number: by how much the rewards must differ for a loss of log 2
            (Touvron et al. 2023, arXiv:2307.09288, section 3.2.2).
        weights: float (B,), at least one of them positive; None weighs all alike.

    Returns:
        Scalar: the weighted mean.
    """
    from torch.nn.functional import logsigmoid

    return _mean(-logsigmoid(chosen - rejected - margin), weights)


def centring_penalty(
    chosen: torch.Tensor, rejected: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean of `(chosen + rejected)^2`, which comparisons alone leave undetermined.

    TRL's `center_rewards_coefficient` multiplies the same term (Eisenstein et al. 2023,
    arXiv:2312.09244, section 2).

    Args:
        chosen: float (B,).
        rejected: float (B,).
        weights: float (B,); None weighs all alike.

    Returns:
        Scalar: the weighted mean.
    """
    return _mean((chosen + rejected) ** 2, weights)


def rating_loss(
    predicted: torch.Tensor, ratings: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared error.

    Args:
        predicted: float (B,).
        ratings: float (B,), in the same units.
        weights: float (B,); None weighs all alike.

    Returns:
        Scalar: the weighted mean, in the square of the units.
    """
    return _mean((predicted - ratings) ** 2, weights)


def _mean(values: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    return values.mean() if weights is None else (values * weights).sum() / weights.sum()
