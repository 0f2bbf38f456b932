"""A LoRA layer that takes less memory than PEFT's, and computes the same to the bit.

PEFT's holds four tensors of its output's size at a time: the base's output, what the adapter adds,
that scaled, and the sum. What is kept for the backward pass comes to lie between such blocks, and
the holes that they leave are lost to much of what follows.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import nn
from transformers.pytorch_utils import Conv1D


class InPlaceLinear(Linear):
    """PEFT's, that scales and adds in place where nobody else reads what is overwritten."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As PEFT's."""
        adapter = None if args or kwargs else self._only_adapter()
        if adapter is None:
            return super().forward(x, *args, **kwargs)
        result = self.base_layer(x)
        down, up = self.lora_A[adapter], self.lora_B[adapter]
        added = up(down(self._cast_input_dtype(x, down.weight.dtype)))
        if added.dtype != result.dtype:
            return (result + added * self.scaling[adapter]).to(result.dtype)
        return result.add_(added.mul_(self.scaling[adapter]))

    def _only_adapter(self) -> str | None:
        """The adapter, if it is the only one, a plain one, on a plain layer."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        (adapter,) = self.active_adapters
        is_plain = (
            adapter in self.lora_A
            and adapter not in self.lora_variant
            and isinstance(self.lora_dropout[adapter], nn.Identity)
            and type(self.base_layer) in (nn.Linear, Conv1D)
            and not (self.base_layer._forward_hooks or self.lora_B[adapter]._forward_hooks)
        )
        return adapter if is_plain else None


def save_memory(model: nn.Module) -> None:
    """Has the adapter's layers in a model, in place, be those that take less."""
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = InPlaceLinear
