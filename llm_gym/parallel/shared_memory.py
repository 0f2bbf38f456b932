"""Sums of tensors over the processes of one machine, through memory that they share.

Through gloo each number goes through the kernel's sockets, four times for two processes. Here each
process writes its numbers where all can read them, and adds up what all have written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch

from llm_gym.parallel.processes import World

_WINDOW = 4 * 2**20  # bytes that a process shows the others at a time


class SharedMemory:
    """Windows in memory that the processes of a machine share: two for each process, in turn.

    Who writes into a window again has met all others since they have read it, for the other one.

    Args:
        rank: Number of this process.
        windows: uint8 `(2, processes, bytes)`, the same memory in all of them.
        meet: Returns when all processes have called it.
    """

    def __init__(self, rank: int, windows: torch.Tensor, meet: Callable[[], object]) -> None:
        self._rank, self._windows, self._meet = rank, windows, meet
        self._turn = 0

    def add(self, tensors: Sequence[torch.Tensor], share: float) -> None:
        """Makes tensors the sums of all processes' tensors, each times its process's share.

        Args:
            tensors: On the CPU and contiguous, of one type; of the same sizes in all processes.
            share: Of this process.
        """
        windows = self._windows.view(sum_type(tensors[0].dtype))
        for pieces in _windowfuls([tensor.view(-1) for tensor in tensors], windows.shape[2]):
            sizes = [len(piece) for piece in pieces]
            places = windows[self._turn, :, : sum(sizes)].split(sizes, dim=1)
            for piece, place in zip(pieces, places, strict=True):
                torch.mul(piece.to(place.dtype), share, out=place[self._rank])
            self._meet()
            for piece, place in zip(pieces, places, strict=True):
                _add_up(place, piece)
            self._turn = 1 - self._turn


def sum_type(dtype: torch.dtype) -> torch.dtype:
    """In what numbers of a type are added up."""
    return torch.promote_types(dtype, torch.float32)


def _add_up(rows: torch.Tensor, out: torch.Tensor) -> None:
    """Sums `(n,)` of rows `(processes, n)`, in their order: the same to the bit everywhere."""
    total = out if out.dtype == rows.dtype else torch.empty_like(rows[0])
    torch.add(rows[0], rows[1], out=total)
    for row in rows[2:]:
        total += row
    if total is not out:
        out.copy_(total)


def _windowfuls(vectors: Sequence[torch.Tensor], size: int) -> Iterator[list[torch.Tensor]]:
    """Vectors one behind the other, in pieces that have so many numbers together."""
    pieces: list[torch.Tensor] = []
    room = size
    for vector in vectors:
        while len(vector) > room:
            yield [*pieces, vector[:room]]
            vector, pieces, room = vector[room:], [], size
        pieces.append(vector)
        room -= len(vector)
    yield pieces


def shared_memory(world: World, meet: Callable[[], object]) -> SharedMemory | None:
    """Memory of all processes; None if they are not on one machine, or it cannot be had there.

    It has no name in a file system, so that nothing is left of it, however the processes end.

    Args:
        world: All processes, each of which calls this.
        meet: As of `SharedMemory`.
    """
    machines = world.each(os.environ.get("GROUP_RANK"))  # torchrun gives each a number
    if len(set(machines)) > 1:
        return None
    size = 2 * world.size * _WINDOW
    with _memory_file(size if world.rank == 0 else 0) as path:
        path, memory = world.of_first(path), None
        if path:
            with suppress(RuntimeError):
                memory = torch.from_file(path, shared=True, size=size, dtype=torch.uint8)
        has_all = world.sums(memory is not None)[0] == world.size
    if memory is None or not has_all:
        return None
    return SharedMemory(world.rank, memory.view(2, world.size, _WINDOW), meet)


@contextmanager
def _memory_file(size: int) -> Iterator[str]:
    """Path of so many bytes, which are gone when all that have opened it have ended; or ""."""
    if not size or not hasattr(os, "memfd_create"):
        yield ""
        return
    descriptor = os.memfd_create("llm_gym")
    path = ""
    with suppress(OSError):
        os.posix_fallocate(descriptor, 0, size)  # later, what is lacking would be a SIGBUS
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
    try:
        yield path
    finally:
        os.close(descriptor)
