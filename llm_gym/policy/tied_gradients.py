"""Gradients of a matrix that is embedding and head at once, without a table of zeros.

The head's share is a gradient of every token, `(V, H)`. The embedding's share is one of the tokens
that were read, a few hundred rows, of which PyTorch makes another `(V, H)`, zeros else, and the sum
of both is a third: 113 MB each for 49 thousand tokens and a width of 576. Here those rows are added
to what the head's share has become, in place, when the backward pass is done with all else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from llm_gym.policy.forwards import forward_by

LEAST_BYTES = 2**20
"""Tables of fewer bytes are not worth it."""


@contextmanager
def rows_alone(model: Any) -> Iterator[None]:
    """Has `loss.backward()` add a tied embedding's gradients to the rows that were read alone.

    `.grad` is the same afterwards, up to the order of sums. `torch.autograd.grad` would leave the
    embedding's share out, so whoever calls that stays outside.

    Args:
        model: A causal language model. Nothing happens where its matrices are not tied, not learnt,
            small, not on a CPU, in 16 bits, or have hooks that ask for their gradient.
    """
    embedding = _tied(model)
    if embedding is None:
        yield
        return
    with forward_by(embedding, partial(_read, embedding)):
        yield


def _tied(model: Any) -> nn.Embedding | None:
    """The embedding that shares its matrix with the head, where rows are worth it."""
    weight = getattr(model.get_output_embeddings(), "weight", None)
    if not isinstance(weight, nn.Parameter) or not weight.requires_grad:
        return None
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.float64):
        return None
    if weight.nbytes < LEAST_BYTES or weight._backward_hooks or weight._post_accumulate_grad_hooks:
        return None
    readers = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.weight is weight]
    return readers[0] if len(readers) == 1 and _is_plain(readers[0]) else None


def _is_plain(embedding: nn.Embedding) -> bool:
    if type(embedding) is not nn.Embedding or "forward" in vars(embedding):
        return False
    return not embedding.sparse and not embedding.scale_grad_by_freq and embedding.max_norm is None


def _read(embedding: nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
    """Stands in for the embedding's `forward`."""
    embedded: torch.Tensor = _Embedded.apply(embedding.weight, ids, embedding.padding_idx)
    return embedded


class _Embedded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, ids: torch.Tensor, padding: int | None) -> Any:
        ctx.save_for_backward(weight, ids)
        ctx.padding = padding
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        weight, ids = ctx.saved_tensors
        ids, rows = ids.flatten(), gradient.flatten(0, -2)
        if ctx.padding is not None:
            learnt = ids != ctx.padding
            ids, rows = ids[learnt], rows[learnt]
        # Only when all else is done does the head's share lie in `.grad`, where nobody else has it.
        engine: Any = torch.autograd.Variable._execution_engine
        engine.queue_callback(partial(_add_rows, weight, ids, rows))
        return None, None, None


@torch.no_grad()
def _add_rows(weight: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor) -> None:
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    weight.grad.index_add_(0, ids, rows)
