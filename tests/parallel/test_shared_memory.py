"""Sums through shared memory: of processes that are threads here, in windows of a few numbers."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from llm_gym.parallel import World, shared_memory
from llm_gym.parallel.shared_memory import SharedMemory

SIZES = [(3,), (2, 5), (), (40,), (0,), (1,)]


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    """A fault in a size must not take the memory of the machine, which would end other programs."""
    allocate = os.posix_fallocate

    def ask(descriptor, start, size):
        assert size <= 2**26
        allocate(descriptor, start, size)

    monkeypatch.setattr(os, "posix_fallocate", ask)


def added(size, share, dtype, window=32, rounds=3, late=0.0):
    """Sums of some rounds, and what each rank gave."""
    windows = torch.zeros(2, size, window, dtype=torch.uint8)
    barrier = threading.Barrier(size, timeout=20)

    def run(rank):
        def meet():
            barrier.wait()
            time.sleep(late * rank)  # the first writes its next numbers before others read

        memory = SharedMemory(rank, windows, meet)
        generator = torch.Generator().manual_seed(rank)
        given, sums = [], []
        for _ in range(rounds):
            tensors = [torch.randn(s, generator=generator).to(dtype) for s in SIZES]
            given.append([tensor.clone() for tensor in tensors])
            memory.add(tensors, share(rank))
            sums.append(tensors)
        return given, sums

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(run, range(size)))


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_tensors_become_sums_of_all_shares_the_same_to_the_bit(size, dtype):
    ranks = added(size, lambda rank: 0.5 + rank, dtype)
    for i, first in enumerate(ranks[0][1]):
        for j, tensor in enumerate(first):
            wide = [(0.5 + rank) * given[i][j].double() for rank, (given, _) in enumerate(ranks)]
            expected = torch.stack(wide).sum(0)
            rounding = torch.finfo(dtype).eps if dtype.itemsize < 4 else 1e-6
            assert torch.allclose(tensor.double(), expected, rtol=rounding, atol=1e-6)
            assert tensor.dtype == dtype
            assert all(torch.equal(sums[i][j], tensor) for _, sums in ranks)


def test_a_process_that_reads_late_reads_what_was_written_for_it():
    (_, first), (_, late) = added(2, lambda _: 1.0, torch.float32, window=512, late=0.02)
    for ours, theirs in zip(first, late, strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_low_precision_is_rounded_once():
    given = torch.tensor([1.0, 2.0**-8, 2.0**-8], dtype=torch.bfloat16)  # 1 + 2^-8 is no bfloat16
    windows = torch.zeros(2, 3, 8, dtype=torch.uint8)
    barrier = threading.Barrier(3, timeout=20)

    def run(rank):
        tensor = given[rank : rank + 1].clone()
        SharedMemory(rank, windows, barrier.wait).add([tensor], 1.0)
        return float(tensor)

    with ThreadPoolExecutor(3) as threads:
        assert set(threads.map(run, range(3))) == {1 + 2.0**-7}


@pytest.mark.parametrize(
    ("sizes", "meetings"), [([8], 1), ([3, 5], 1), ([9], 2), ([16], 2), ([3, 6], 2), ([8, 0, 8], 2)]
)
def test_processes_meet_once_for_each_window_of_numbers(sizes, meetings):
    met = []
    memory = SharedMemory(0, torch.zeros(2, 2, 32, dtype=torch.uint8), lambda: met.append(1))
    tensors = [torch.ones(size) for size in sizes]
    memory.add(tensors, 2.0)
    assert len(met) == meetings
    assert all((tensor == 2.0).all() for tensor in tensors)


@pytest.mark.parametrize("size", [2, 3])
def test_memory_is_that_of_the_first_and_none_is_left(size):
    first = _World([size - 1.0], ["0"] * size)
    memory = shared_memory.shared_memory(first, lambda: None)
    assert memory is not None
    assert memory._windows.shape == (2, size, 4_194_304)  # 4 MiB each
    assert not any("memfd:llm_gym" in target for target in _open_files())


def test_the_others_ask_for_no_memory_of_their_own(monkeypatch):
    made = []
    create = os.memfd_create
    monkeypatch.setattr(os, "memfd_create", lambda name: made.append(name) or create(name))
    first, second = _World([1.0]), _World([1.0])
    second.rank, second.of_first = 1, lambda path: ""  # as if the first had none
    assert shared_memory.shared_memory(first, lambda: None) is not None
    assert len(made) == 1
    assert shared_memory.shared_memory(second, lambda: None) is None
    assert len(made) == 1


@pytest.mark.parametrize("lacks", ["a machine", "memfd_create", "room", "a way to open it"])
def test_what_cannot_be_had_is_done_without(lacks, monkeypatch):
    world = _World([1.0], machines=["0", "1"] if lacks == "a machine" else ["0", "0"])
    if lacks == "memfd_create":
        monkeypatch.delattr(os, "memfd_create")
    if lacks == "room":

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
    if lacks == "a way to open it":
        world.others = [0.0]
    assert shared_memory.shared_memory(world, lambda: None) is None
    assert not any("memfd:llm_gym" in target for target in _open_files())


class _World(World):
    """The first of some processes; the others answer as they are told."""

    rank = 0

    def __init__(self, others, machines=("0", "0")):
        self.others, self.machines, self.size = others, machines, len(machines)

    def each(self, value):
        return list(self.machines) if value is None else [value, None]

    def sums(self, *values):
        return [value + self.others[0] for value in values]


def _open_files():
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            yield os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
