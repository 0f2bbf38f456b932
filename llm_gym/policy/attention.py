"""Explicit attention masks in the form that an architecture expects, and how attention is computed.

transformers makes masks itself, from what is padding. Rows that stand at different lengths in one
cache, or that hold several answers, need masks that say who sees what.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def slides(config: Any) -> bool:
    """Whether some layers see only the nearest tokens."""
    layer_types = getattr(config, "layer_types", None)
    return getattr(config, "sliding_window", None) is not None and (
        layer_types is None or "sliding_attention" in layer_types
    )


def explicit_masks(
    config: Any, dtype: torch.dtype, allowed: torch.Tensor, back: torch.Tensor
) -> Any:
    """Who may see what, as 4-dimensional masks.

    Args:
        config: The decoder's; its attention implementation is the one in effect.
        dtype: Of the decoder's parameters.
        allowed: Bool `(N, Q, K)`, whether a query may see a key.
        back: int64, broadcastable to `(N, Q, K)`, how many positions before the query the key
            stands: a sliding window follows positions, wherever in a row a token is kept.

    Returns:
        A mask `(N, 1, Q, K)`, or one by the name of each kind of layer.
    """
    full = _as_expected(config, dtype, allowed)
    if not slides(config):
        return full
    near = _as_expected(config, dtype, allowed & (back < config.sliding_window))
    if getattr(config, "layer_types", None) is None:
        return near
    return {"full_attention": full, "sliding_attention": near}


def _as_expected(config: Any, dtype: torch.dtype, allowed: torch.Tensor) -> torch.Tensor:
    mask = allowed[:, None]
    if config._attn_implementation != "eager":
        return mask
    zero = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zero.masked_fill(~mask, torch.finfo(dtype).min)


@contextmanager
def attention_by(config: Any, implementation: str) -> Iterator[None]:
    """Computes attention in another way for as long as the block lasts.

    `"eager"` is by matrix products and a softmax, as the model's own code has it. On a CPU in
    bfloat16 PyTorch's fused attention is no help: forward and backward of 8 x 4 heads over 79
    tokens took 12.6 ms against 3.3 ms by plain products (torch 2.13, one thread).
    """
    before = config._attn_implementation
    config._attn_implementation = implementation
    try:
        yield
    finally:
        config._attn_implementation = before
