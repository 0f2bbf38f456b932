"""Losses on pairs of answers, of which one was preferred: DPO, its cautious form, and IPO."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import logsigmoid

__all__ = ["LOSSES", "PairLoss", "check_loss_settings", "dpo_loss"]

LOSSES = ("sigmoid", "ipo")


class PairLoss(NamedTuple):
    """Losses and implicit rewards of B pairs.

    Attributes:
        losses: float `(B,)`, with gradients.
        chosen_rewards: float `(B,)`, `beta * (log pi - log pi_ref)` of the preferred answers,
            without gradients. An answer's reward is this up to a constant of its prompt.
        rejected_rewards: The same of the others.
    """

    losses: torch.Tensor
    chosen_rewards: torch.Tensor
    rejected_rewards: torch.Tensor


def check_loss_settings(beta: float, label_smoothing: float, loss: str) -> None:
    """Raises `ValueError` for a setting of `dpo_loss` that is out of range, by name."""
    if not 0 < beta < float("inf"):
        raise ValueError(f"beta={beta!r} must be positive: it is the price of a nat of divergence")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(
            f"label_smoothing={label_smoothing!r} must be in [0, 0.5): it is the share of pairs "
            "whose label is taken to be wrong"
        )
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r} must be one of {', '.join(LOSSES)}")


def dpo_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float | torch.Tensor = 0.0,
    loss: str = "sigmoid",
) -> PairLoss:
    """Direct preference optimisation.

    With `h = (log pi(y_w) - log pi_ref(y_w)) - (log pi(y_l) - log pi_ref(y_l))`:

    - `"sigmoid"`: `-log sigmoid(beta * h)` (Rafailov et al., 2305.18290, equation 7), the
      likelihood of the preference under Bradley and Terry's model with reward
      `beta * log(pi / pi_ref)`. With exact preferences of that kind for a reward r the optimum is
      `pi_ref * exp(r / beta) / Z`, that of reinforcement learning with the same penalty.
    - `"ipo"`: `(h - 1 / (2 * beta))^2` (Azar et al., 2310.12036, equation 17, whose tau is
      beta), which stays bounded where preferences are certain. Log-probabilities are sums over an
      answer's tokens as in the paper; TRL takes their means.

    Args:
        chosen: float `(B,)`, log-probabilities of whole preferred answers, in nats.
        rejected: float `(B,)`, of the others.
        reference_chosen: float `(B,)`, the same under the reference.
        reference_rejected: float `(B,)`.
        beta: Price of a nat of divergence from the reference, in units of reward.
        label_smoothing: Probability that the label is wrong, one or `(B,)`: the loss is its
            expectation (cDPO, Mitchell, 2023, "A note on DPO with noisy preferences"). A known
            probability of preference p goes in as `1 - p`.
        loss: `"sigmoid"` or `"ipo"`.

    Returns:
        Losses and implicit rewards.
    """
    chosen_ratio = chosen - reference_chosen
    rejected_ratio = rejected - reference_rejected
    h = chosen_ratio - rejected_ratio  # (B,)
    if loss == "sigmoid":
        right, wrong = -logsigmoid(beta * h), -logsigmoid(-beta * h)
    elif loss == "ipo":
        target = 1 / (2 * beta)
        right, wrong = (h - target) ** 2, (-h - target) ** 2
    else:
        raise ValueError(f"loss={loss!r} must be one of {', '.join(LOSSES)}")
    losses = (1 - label_smoothing) * right + label_smoothing * wrong
    return PairLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())
