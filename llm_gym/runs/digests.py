"""Fingerprints of weights that a checkpoint relies on and does not contain."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch


def digest_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of tensors: their names and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        contents: Any = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(contents)
    return digest.hexdigest()
