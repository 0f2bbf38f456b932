"""A policy's evaluation of many sequences, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch.utils.checkpoint import checkpoint

from llm_gym.policy.sampling import EpisodeBatch

Observation = Mapping[str, torch.Tensor] | EpisodeBatch
Evaluation = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def evaluate_in_parts(
    evaluate: Callable[[Observation, torch.Tensor], Evaluation],
    obs: Observation,
    tokens: torch.Tensor,
    size: int,
) -> Evaluation:
    """Evaluates tokens a few sequences at a time, and keeps nothing of them for the backward pass.

    That computes each part once more, when its turn comes, so that what is in memory is what one of
    them takes. An algorithm that takes its gradients part by part need not compute anything twice,
    but must have a loss that is a sum; this serves any.

    Args:
        evaluate: Values `(A, 1)`, log-probabilities and entropies `(A,)` of observations.
        obs: `B` sequences: an `EpisodeBatch`, or tensors of `B` rows by name.
        tokens: int64 `(A,)`; of tensors by name one a row.
        size: Sequences at a time.

    Returns:
        What `evaluate` makes of all of them.
    """
    parts = list(_parts(obs, size))
    if len(parts) < 2:
        return evaluate(obs, tokens)
    results = [
        checkpoint(evaluate, part, tokens[chosen], use_reentrant=False, preserve_rng_state=False)
        for part, chosen in parts
    ]
    order = torch.cat([chosen for _, chosen in parts]).argsort()
    values, log_prob, entropy = (torch.cat(each)[order] for each in zip(*results, strict=True))
    return values, log_prob, entropy


def _parts(obs: Observation, size: int) -> Iterator[tuple[Observation, torch.Tensor]]:
    """Each part, and the numbers of its actions, int64, among all."""
    if isinstance(obs, EpisodeBatch):
        yield from obs.split(size)
        return
    n_rows = len(obs["input_ids"])
    for rows in torch.arange(n_rows, device=obs["input_ids"].device).split(size):
        yield {name: tensor[rows] for name, tensor in obs.items()}, rows
