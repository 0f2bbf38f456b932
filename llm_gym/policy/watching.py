"""What a decoder's answers hang on, watched for changes: what was read before one is stale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook


class _OptimizerSteps:
    """Counts the steps of every optimizer: fused ones change weights without raising versions."""

    def __init__(self) -> None:
        self.count = 0
        register_optimizer_step_post_hook(self._step)

    def _step(self, *_: Any) -> None:
        self.count += 1


_OPTIMIZER_STEPS = _OptimizerSteps()
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_LIBRARIES = ("torch", "transformers")  # whose modules have no switches that change while in use


class Watch:
    """The modules of a decoder and their tensors, however often some are put in or taken out.

    Adapters are put into a model that is in use: modules take the place of others, have weights of
    their own, and switches (on or off, a scale) that are plain attributes. Hooks change what a
    module says, too. So all of it is looked at each time, which costs some 2 microseconds a layer.

    Attributes:
        modules: As of the last look.
        tensors: Their parameters and buffers, likewise.

    Args:
        decoder: What to watch.
    """

    def __init__(self, decoder: nn.Module) -> None:
        self._decoder = decoder
        self._changes = 0
        self._collect()

    def look(self) -> tuple[Any, ...]:
        """Something that differs from what it was if what the decoder says may differ.

        In-place updates raise a tensor's version, replaced storage has another address. Writes to
        `tensor.data` leave no trace: see `bits`.
        """
        if list(map(id, self._parts_of_modules())) != self._ids:
            self._collect()
            self._changes += 1
        return (
            _OPTIMIZER_STEPS.count,
            self._changes,
            *((t.data_ptr(), t._version) for t in self.tensors),
            *(_switches(module) for module in self._foreign),
        )

    def bits(self) -> list[int]:
        """The sum of each tensor's bits, read as whole numbers; what overflows is dropped."""
        whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        real = [torch.view_as_real(t) if t.is_complex() else t for t in self.tensors]
        # Summed in their own type, which is 17 times as fast as in int64.
        bits = [t.detach().view(whole[t.element_size()]) for t in real]
        return torch.stack([b.sum(dtype=b.dtype).long() for b in bits]).tolist() if bits else []

    def _collect(self) -> None:
        self.modules = list(self._decoder.modules())
        # Kept, so that nothing new can have the id of something old.
        self._parts = self._parts_of_modules()
        self._ids = list(map(id, self._parts))
        tensors = {id(part): part for part in self._parts if isinstance(part, torch.Tensor)}
        self.tensors: list[torch.Tensor] = list(tensors.values())
        self._foreign = [
            m for m in self.modules if type(m).__module__.split(".")[0] not in _LIBRARIES
        ]

    def _parts_of_modules(self) -> list[Any]:
        return [
            part
            for module in self.modules
            for parts in (
                module._parameters,
                module._buffers,
                module._modules,
                module._forward_hooks,
                module._forward_pre_hooks,
            )
            for part in parts.values()
        ]


def _switches(module: nn.Module) -> tuple[Any, ...]:
    own = vars(module)
    return tuple((name, _plain(own[name])) for name in own if name not in _OF_EVERY_MODULE)


def _plain(value: Any) -> Any:
    """A copy of numbers, texts and what is made of them; anything else is no switch."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return tuple((str(name), _plain(entry)) for name, entry in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(map(_plain, value))
    return None
