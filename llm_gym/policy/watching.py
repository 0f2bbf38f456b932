"""What a decoder's answers hang on, watched for changes: what was read before one is stale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle


class _Happenings:
    """Counts what may change some model: cheaper than to look at every module for every token."""

    def __init__(self) -> None:
        self.optimizer_steps = 0
        self.registrations = 0
        # Fused optimizers change weights without raising versions.
        register_optimizer_step_post_hook(self._step)
        for register in (
            module.register_module_module_registration_hook,
            module.register_module_parameter_registration_hook,
            module.register_module_buffer_registration_hook,
        ):
            register(self._registered)

    def _step(self, *_: Any) -> None:
        self.optimizer_steps += 1

    def _registered(self, *_: Any) -> None:
        self.registrations += 1

    def counted(self) -> tuple[int, int]:
        """Parts that were put into any module so far, and hooks."""
        return self.registrations, RemovableHandle.next_id


_HAPPENINGS = _Happenings()


def optimizer_steps() -> int:
    """Steps that any optimizer has taken so far."""
    return _HAPPENINGS.optimizer_steps


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
_NEVER_CHANGE = frozenset({bool, int, float, str, type(None)})
_LIBRARIES = ("torch", "transformers")  # whose modules have no switches that change while in use


class Watch:
    """The modules of a decoder and their tensors, however often some are put in or taken out.

    Adapters are put into a model that is in use: modules take the place of others, have weights of
    their own, and switches (on or off, a scale) that are plain attributes. Hooks change what a
    module says, too. Whatever is put in is counted by torch, so all modules are looked at anew only
    when something was put into some module somewhere; what can be taken out again, or switched, is
    looked at each time.

    Attributes:
        modules: As of the last look.
        tensors: Their parameters and buffers, likewise.

    Args:
        decoder: What to watch.
    """

    def __init__(self, decoder: nn.Module) -> None:
        self._decoder = decoder
        self._changes = 0
        self._counted = (0, 0)
        self._collect()

    def look(self) -> tuple[Any, ...]:
        """Something that differs from what it was if what the decoder says may differ.

        In-place updates raise a tensor's version, replaced storage has another address. Writes to
        `tensor.data` leave no trace: see `bits`.
        """
        counted = _HAPPENINGS.counted()
        sizes = [len(parts) for parts in self._removable]
        if counted != self._counted or sizes != self._sizes:
            if sizes != self._sizes or list(map(id, self._parts_of_modules())) != self._ids:
                self._collect()
                self._changes += 1
            self._counted = counted
        return (
            _HAPPENINGS.optimizer_steps,
            self._changes,
            *[(t.data_ptr(), t._version) for t in self.tensors],
            *[_switches(m) for m in self._foreign],
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
        self._removable: list[dict[Any, Any]] = [
            *[p for m in self._foreign for p in (m._parameters, m._buffers, m._modules)],
            *[m._modules for m in self.modules if isinstance(m, _CONTAINERS)],
            *[hooks for m in self.modules for hooks in _hooks(m) if hooks],
        ]
        self._sizes = [len(parts) for parts in self._removable]
        self._counted = _HAPPENINGS.counted()

    def _parts_of_modules(self) -> list[Any]:
        return [
            part
            for m in self.modules
            for parts in (m._parameters, m._buffers, m._modules, *_hooks(m))
            for part in parts.values()
        ]


def _hooks(part: nn.Module) -> tuple[dict[int, Any], dict[int, Any]]:
    return part._forward_hooks, part._forward_pre_hooks


def _switches(part: nn.Module) -> tuple[Any, ...]:
    own = vars(part)
    return tuple([(name, _plain(own[name])) for name in own if name not in _OF_EVERY_MODULE])


def _plain(value: Any) -> Any:
    """A copy of numbers, texts and what is made of them; anything else is no switch."""
    kind = type(value)
    if kind in _NEVER_CHANGE:  # before all else, since it is asked for every token
        return value
    if kind is dict or isinstance(value, Mapping):
        return tuple([(name, _plain(entry)) for name, entry in value.items()])
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(map(_plain, value))
    return value if isinstance(value, (bool, int, float, str)) else None
