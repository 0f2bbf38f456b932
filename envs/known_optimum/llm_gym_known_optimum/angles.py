"""How far a step points away from the exact gradient, in degrees."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

__all__ = ["angle_to_true_gradient"]


def angle_to_true_gradient(
    loss: torch.Tensor, objective: torch.Tensor, parameters: Sequence[torch.Tensor]
) -> float:
    """Angle between the step down a loss and the steepest way up an objective that is known.

    Lengths do not count: a loss twice as steep is a matter of the learning rate. 0 degrees is the
    right direction; 90 says nothing about the objective; 180 leads straight down. A loss of N
    samples has noise of its own, which adds to the angle even where it has no bias.

    Args:
        loss: A scalar, to be minimised; its graph is kept.
        objective: A scalar, to be maximised, such as `KnownOptimum.objective`; its graph is kept.
        parameters: What both are functions of; those that one does not depend on count as zeros.

    Returns:
        Degrees, from 0 to 180.

    Raises:
        ValueError: One of the two has no gradient, or one that is not finite.
    """
    step, way_up = -_gradient(loss, parameters), _gradient(objective, parameters)
    for name, vector in (("loss", step), ("objective", way_up)):
        length = float(vector.norm())
        if not math.isfinite(length) or length == 0:
            raise ValueError(
                f"the gradient of {name} has length {length}, so it points nowhere: {name} must "
                "depend on the parameters, and be finite"
            )
    # Of the half angle: the cosine alone loses half of its digits near 0 and 180 degrees.
    ours, theirs = step / step.norm(), way_up / way_up.norm()
    return math.degrees(
        2 * math.atan2(float((ours - theirs).norm()), float((ours + theirs).norm()))
    )


def _gradient(value: torch.Tensor, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """Flat, float64 `(D,)`."""
    if not value.requires_grad:
        return torch.zeros(1, dtype=torch.float64)
    found = torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(parameter) if gradient is None else gradient).double().cpu().flatten()
            for parameter, gradient in zip(parameters, found, strict=True)
        ]
    )
