"""Rewards of rows of token ids, which rows have none, and the losses made of rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llm_gym.language_models.packing import by_length, pad_inputs

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from llm_gym.scorers.classifier import Row


def rewards(model: PreTrainedModel, rows: Sequence[Row]) -> torch.Tensor:
    """One forward pass, with gradients.

    Args:
        model: A sequence classifier with one output.
        rows: B rows, without padding.

    Returns:
        float32 `(B,)`.
    """
    inputs = pad_inputs(rows, model.config.pad_token_id, device=model.device)
    return model(**inputs).logits[:, 0].float()


def rewards_of(
    model: PreTrainedModel, rows: Sequence[Row], batch_size: int = 64
) -> NDArray[np.float64]:
    """Rewards of any number of rows, without gradients and with dropout off.

    Args:
        model: A sequence classifier with one output; left in evaluation mode.
        rows: N rows, without padding.
        batch_size: Rows of similar length per forward pass.

    Returns:
        float64 `(N,)`.
    """
    import torch

    model.eval()
    values = np.empty(len(rows))
    with torch.inference_mode():
        for numbers in by_length([len(row["input_ids"]) for row in rows], batch_size):
            values[numbers] = rewards(model, [rows[number] for number in numbers]).cpu().numpy()
    return values


def check_last_tokens(rows: Sequence[Row], pad_token_id: int) -> None:
    """Refuses rows that are empty or end in the pad token, where no score could be read.

    Raises:
        ValueError: With the number of the first such row.
    """
    for number, row in enumerate(rows):
        ids = row["input_ids"]
        if not ids or ids[-1] == pad_token_id:
            what = "has no tokens" if not ids else "ends in the pad token, which marks padding"
            raise ValueError(f"text {number} {what}; change the text or the template")


# ------------------------------------------------------------------ losses


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
