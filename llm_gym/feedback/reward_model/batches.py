"""Rewards of rows of token ids, and which rows have none."""

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

__all__ = ["check_last_tokens", "rewards", "rewards_of"]


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
