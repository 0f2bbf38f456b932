"""Memory that nobody uses any more: whether the allocator keeps it between phases of training.

glibc gives free memory back to the system when enough of it lies at the end of its heap, and takes
it anew, page by page, which are zeroed: a quarter of a million a batch of a model of 135 million
weights, up to 4 microseconds each on a virtual machine. Other allocators are left alone.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

LARGE_BYTES = 64 * 2**20
"""Weights of fewer bytes leave too little behind for either to be worth it."""

# From glibc's malloc.h, and what its own adjustment of both ends at.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_TRIM, _LARGEST_MMAP = 64 * 2**20, 32 * 2**20
_NEVER = -1
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def trim(model: torch.nn.Module) -> None:
    """Gives free memory back to the system between two phases of training.

    After an update glibc keeps most of what its activations took, a third of a gigabyte for 135
    million weights, on top of which come then the reference's.

    Args:
        model: What is trained; nothing happens where its weights take less than `LARGE_BYTES`, or
            are not on the CPU.
    """
    if _is_large(model) and _function("malloc_trim") is not None:
        _function("malloc_trim")(0)


@contextmanager
def kept(model: torch.nn.Module) -> Iterator[None]:
    """Has what is freed in the block stay with the process, for whoever allocates next.

    The peak is the same: the phases of training take as much again. Behind the block glibc gives
    memory back as it does where large blocks come and go. What the environment sets for it is left
    as it is.

    Args:
        model: As for `trim`.
    """
    mallopt = _function("mallopt")
    if not _is_large(model) or mallopt is None or any(name in os.environ for name in _SETTINGS):
        yield
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)
    mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        mallopt(_TRIM_THRESHOLD, _LARGEST_TRIM)


def _is_large(model: torch.nn.Module) -> bool:
    weights = [p for p in model.parameters() if p.device.type == "cpu"]
    return sum(p.nbytes for p in weights) >= LARGE_BYTES


@lru_cache
def _function(name: str) -> Any:
    """A function of the C library, or `None` where that is not glibc's."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018
        return getattr(library, name)
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
