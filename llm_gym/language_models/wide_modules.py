"""Modules that keep their weights in float32 in a model of a narrower type.

A step of an optimizer on 16 bits is mostly lost, so what is trained is wide, whatever the rest is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def widen_module(module: nn.Module, *, back: bool) -> None:
    """Puts a module's weights into float32, and has it compute in it; one that is wide stays so.

    Args:
        module: Changed in place.
        back: Give what it computes the type that its weights had, for layers that follow.
    """
    narrow = [p.dtype for p in module.parameters() if p.is_floating_point() and p.itemsize < 4]
    if not narrow:
        return
    module.float()
    module.register_forward_pre_hook(_widened, with_kwargs=True)
    if back:
        module.register_forward_hook(partial(_narrowed, narrow[0]))


def _widened(
    _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def wide(tensor: torch.Tensor) -> torch.Tensor:
        narrow = tensor.is_floating_point() and tensor.element_size() < 4
        return tensor.float() if narrow else tensor

    return _each_tensor(inputs, wide), _each_tensor(named, wide)


def _narrowed(dtype: torch.dtype, _: nn.Module, inputs: Any, output: Any) -> Any:
    return _each_tensor(output, lambda each: each.to(dtype) if each.is_floating_point() else each)


def _each_tensor(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A value of nested tuples, lists and dicts with every tensor changed."""
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(_each_tensor(each, change) for each in value)
    if type(value) is dict:
        return {name: _each_tensor(each, change) for name, each in value.items()}
    return value
