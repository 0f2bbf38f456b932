"""Weights of linear layers in the layout that products of few rows want, while a rollout lasts.

Decoding multiplies one token of each row by all weights. Whoever multiplies a plain matrix lays its
blocks out anew each time, which pays for hundreds of rows and not for 16. So the blocks are laid
out once, by oneDNN, which is PyTorch's on a CPU. The copies lie where gradients will: those are
dropped before a rollout. Weights that are not learnt have none. Their copies lie where activations
of the update will, so of them only the largest are packed, such as a head's, which gain most: all
others would leave holes there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn import functional as F

from llm_gym.policy.watching import optimizer_steps

LARGE_BYTES = 64 * 2**20
"""Weights of fewer bytes stay in the processor's caches, where the layout matters little."""

FEW_ROWS = 64
"""Products of more rows gain too little; docs/figures.md has the figures."""

MANY_STEPS = 16
"""Laying out all weights takes about as long as this many steps gain."""

SMALL_BYTES = 256 * 2**10
"""A layer's weights of fewer bytes, such as an adapter's, gain less than calls cost."""

MAPPED_BYTES = 32 * 2**20
"""From here on glibc maps a block of memory by itself, and gives it back when it is free."""


@contextmanager
def packed_weights(model: nn.Module, n_rows: int, n_steps: int) -> Iterator[None]:
    """Has a model's linear layers multiply packed weights, without gradients, in the block.

    What they give is the same up to rounding. A weight that changes in the block is multiplied as
    it is from then on. Nothing happens where nothing would be gained.

    Args:
        model: Layers that are plain `nn.Linear`, in float32 on a CPU, are packed.
        n_rows: Rows that are decoded together.
        n_steps: Tokens of each that will be.
    """
    if n_rows > FEW_ROWS or n_steps < MANY_STEPS or not _has_products():
        yield
        return
    layers = [m for m in model.modules() if _can_be_packed(m)]
    weights = {id(layer.weight): layer.weight for layer in layers}
    if sum(weight.nbytes for weight in weights.values()) < LARGE_BYTES:
        yield
        return
    try:
        for layer in layers:
            vars(layer)["forward"] = _Forward(layer, _packed(layer.weight, n_rows))
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _can_be_packed(layer: nn.Module) -> TypeGuard[nn.Linear]:
    if type(layer) is not nn.Linear or "forward" in vars(layer):
        return False
    weight = layer.weight
    plain = weight.device.type == "cpu" and weight.dtype == torch.float32
    return plain and weight.nbytes >= (SMALL_BYTES if weight.requires_grad else MAPPED_BYTES)


def _has_products() -> bool:
    """Whether this build of PyTorch has oneDNN, and the products that torch.compile makes of it."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    found = all(hasattr(torch.ops.mkldnn, name) for name in names)
    return found and torch.backends.mkldnn.is_available()


@torch.no_grad()
def _packed(weight: torch.Tensor, n_rows: int) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), n_rows)


class _Forward:
    """Stands in for a linear layer's `forward`."""

    def __init__(self, layer: nn.Linear, packed: torch.Tensor | None) -> None:
        self._layer, self._packed = layer, packed
        self._seen = _version(layer.weight) if packed is not None else None

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        weight, bias = self._layer.weight, self._layer.bias
        plain = inputs.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if self._packed is not None and plain and not torch.is_grad_enabled():
            if _version(weight) == self._seen:
                return torch.ops.mkldnn._linear_pointwise(
                    inputs, self._packed, bias, "none", [], ""
                )
            self._packed = None
        return F.linear(inputs, weight, bias)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Forward, (self._layer, None)  # a copy's weights are its own, and not there yet


def _version(weight: torch.Tensor) -> tuple[int, int, int]:
    return weight.data_ptr(), weight._version, optimizer_steps()
