"""Memory that nobody uses any more and the allocator keeps."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import torch

LARGE_BYTES = 64 * 2**20
"""Weights of fewer bytes leave too little behind for a trim to be worth its time."""


def trim(model: torch.nn.Module) -> None:
    """Gives free memory back to the system between two phases of training.

    After an update glibc keeps most of what its activations took, a third of a gigabyte for 135
    million weights, on top of which come then the reference's. Other allocators are left alone.

    Args:
        model: What is trained; nothing happens where its weights take less than `LARGE_BYTES`, or
            are not on the CPU.
    """
    weights = [p for p in model.parameters() if p.device.type == "cpu"]
    if sum(p.nbytes for p in weights) >= LARGE_BYTES and _malloc_trim() is not None:
        _malloc_trim()(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Any:
    """The C library's `malloc_trim`, or `None` where it has none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
