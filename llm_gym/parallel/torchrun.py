"""The processes that `torchrun` has started, connected by `torch.distributed`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from llm_gym.parallel.processes import World
from llm_gym.parallel.shared_memory import shared_memory, sum_type
from llm_gym.parallel.watch import Watch

_PATIENCE = timedelta(hours=2)  # with a process that lives, e.g. while the first evaluates
_LENGTH, _SHORT = 8, 1016  # bytes: of a length, and of what is sent with it in one message
_BUCKET = 32 * 2**20  # bytes of gradients that are sent at a time


class Torchrun(World):
    """The processes that `torchrun` has started, of which this is one."""

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        if not distributed.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(backend, timeout=_PATIENCE)
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._watch = Watch(self.rank, self.size)
        self._memory = shared_memory(self, lambda: self.sums(0))

    def sums(self, *values: float) -> list[float]:
        """Sums over the processes, in float64."""
        tensor = torch.tensor(values, dtype=torch.float64)
        with self._watch.losing():
            distributed.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, data: bytes) -> list[bytes]:
        """What each of the processes gave, in their order."""
        heads = self._gathered(len(data).to_bytes(_LENGTH, "little") + data, _LENGTH + _SHORT)
        sizes = [int.from_bytes(head[:_LENGTH], "little") for head in heads]
        parts = [head[_LENGTH:] for head in heads]
        if max(sizes) > _SHORT:
            rests = self._gathered(data[_SHORT:], max(sizes) - _SHORT)
            parts = [part + rest for part, rest in zip(parts, rests, strict=True)]
        return [part[:size] for part, size in zip(parts, sizes, strict=True)]

    def _gathered(self, data: bytes, size: int) -> list[bytes]:
        """The first bytes of each, so many; zeros where one has fewer."""
        own = torch.frombuffer(bytearray(data[:size].ljust(size, b"\0")), dtype=torch.uint8)
        parts = [torch.empty_like(own) for _ in range(self.size)]
        with self._watch.losing():
            distributed.all_gather(parts, own)
        return [part.numpy().tobytes() for part in parts]

    def reduce_gradients(
        self, parameters: Sequence[torch.Tensor], share: float = 1.0, figures: Sequence[float] = ()
    ) -> list[float]:
        """One reduction, in buckets of parameters of a kind; sums are float32 at least."""
        trained = [p for p in parameters if p.requires_grad]
        told = self.sums(*figures, *(p.grad is not None for p in trained))
        found = [p for p, n in zip(trained, told[len(figures) :], strict=True) if n]
        for p in found:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.contiguous()
        for bucket in _buckets(found):
            gradients = [p.grad for p in bucket if p.grad is not None]
            if self._memory is not None and gradients[0].device.type == "cpu":
                self._memory.add(gradients, share)
            else:
                self._add(gradients, share)
        return told[: len(figures)]

    def _add(self, tensors: Sequence[torch.Tensor], share: float) -> None:
        """Makes tensors of a kind the sums of all processes' tensors, each times its share."""
        dtype = sum_type(tensors[0].dtype)
        sent = torch.cat([tensor.flatten().to(dtype) for tensor in tensors]).mul_(share)
        with self._watch.losing():
            distributed.all_reduce(sent)
        parts = sent.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def broadcast(self, tensors: Sequence[torch.Tensor]) -> None:
        """Makes tensors those of the first process."""
        with self._watch.losing(), torch.no_grad():
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Tells the others if the block fails."""
        try:
            yield
        except BaseException as error:
            self._watch.fail(error)
            raise


def _buckets(parameters: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Parameters of one type and device each, at most `_BUCKET` bytes together if not one alone."""
    kinds: dict[Any, list[torch.Tensor]] = {}
    for parameter in parameters:
        bucket = kinds.setdefault((parameter.dtype, parameter.device), [])
        if bucket and sum(p.nbytes for p in bucket) + parameter.nbytes > _BUCKET:
            yield bucket.copy()
            bucket.clear()
        bucket.append(parameter)
    yield from filter(None, kinds.values())
