"""Solutions of lesson 8's exercises."""

from __future__ import annotations

import torch


def penalised(reward: float, log_prob: float, reference_log_prob: float, beta: float) -> float:
    """An answer that has become likelier than it was costs."""
    return reward - beta * (log_prob - reference_log_prob)


def k3(log_prob: torch.Tensor, reference_log_prob: torch.Tensor) -> torch.Tensor:
    """See http://joschu.net/blog/kl-approx.html."""
    x = log_prob - reference_log_prob
    return torch.exp(-x) - 1 + x
