"""Solutions of lesson 1's exercises."""

from __future__ import annotations

import math

import torch


def perplexity(log_probabilities: list[float]) -> float:
    """The loss is the mean of minus the log-probabilities."""
    return math.exp(-sum(log_probabilities) / len(log_probabilities))


def with_temperature(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """A temperature below 1 makes differences between logits larger."""
    return (logits / temperature).softmax(-1)
