"""How likely answers are under a model: perplexity, and divergence from a reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llm_gym.runs.answering import AnswerRow

__all__ = ["perplexity_under", "sequence_kl"]


def perplexity_under(
    model: PreTrainedModel, rows: Sequence[AnswerRow], *, batch_size: int = 16
) -> float:
    """Perplexity of answers, given their prompts, under a model.

    Args:
        model: A causal language model in evaluation mode; gives logits at temperature 1.
        rows: Answers, of whatever model.
        batch_size: Answers per forward pass.

    Returns:
        exp of the mean negative log-likelihood of the answers' tokens, the ending one included.
    """
    total, count = 0.0, 0
    for ids, rows_at, slots in _batches(rows, batch_size, model.device):
        log_probs = _logits(model, ids)[rows_at, slots - 1].log_softmax(-1)  # (A, V)
        total += float(log_probs.gather(-1, ids[rows_at, slots][:, None]).double().sum())
        count += len(slots)
    return float(np.exp(-total / count))


def sequence_kl(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    rows: Sequence[AnswerRow],
    *,
    temperature: float = 1.0,
    batch_size: int = 16,
) -> float:
    """KL(model || reference) of whole answers, in nats, estimated on answers that `model` sampled.

    At every token the divergence of the two distributions is computed exactly and summed over the
    answer. That has the same mean as the log-ratio of the sampled tokens, and less variance.

    Args:
        model: The model that sampled the rows.
        reference: The model it started from; same vocabulary, same device.
        rows: Sampled answers (not greedy ones).
        temperature: At which they were sampled.
        batch_size: Answers per forward pass.

    Returns:
        Mean over answers.
    """
    total = 0.0
    for ids, rows_at, slots in _batches(rows, batch_size, model.device):
        ours, theirs = (
            (_logits(one, ids)[rows_at, slots - 1] / temperature).log_softmax(-1)
            for one in (model, reference)
        )
        total += float((ours.exp() * (ours - theirs)).sum(-1).double().sum())
    return total / len(rows)


def _batches(
    rows: Sequence[AnswerRow], batch_size: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yields ids `(B, S)`, padded on the right, and row and column of each answer token `(A,)`."""
    if not rows:
        raise ValueError("rows is empty: there are no answers to look at")
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        width = max(len(row.prompt_ids) + len(row.completion_ids) for row in chosen)
        ids = torch.zeros(len(chosen), width, dtype=torch.int64)
        is_answer = torch.zeros(len(chosen), width, dtype=torch.bool)
        for k, row in enumerate(chosen):
            tokens = [*row.prompt_ids, *row.completion_ids]
            ids[k, : len(tokens)] = torch.tensor(tokens)
            is_answer[k, len(row.prompt_ids) : len(tokens)] = True
        rows_at, slots = is_answer.to(device).nonzero(as_tuple=True)
        yield ids.to(device), rows_at, slots


@torch.no_grad()
def _logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """float32 `(B, S, V)`; padding on the right is invisible to the tokens before it."""
    return model(input_ids=ids, use_cache=False).logits.float()
