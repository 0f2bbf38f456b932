"""Tied weights: tensors that are one in memory, and must be one again after loading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from llm_gym.files.ranges import shown
from llm_gym.runs.shared_base import stored_state


def without_aliases(
    tensors: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Leaves out tensors that share memory with an earlier one (tied weights).

    safetensors stores no shared memory; the second result maps each left-out name to its twin. The
    tensors must still be where the algorithm has them: copies on another device share nothing.
    """
    kept: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in tensors.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and place in seen:
            aliases[name] = seen[place]
        else:
            seen[place] = name
            kept[name] = tensor
    return kept, aliases


def shared_tensors(
    aliases: Mapping[str, str], tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The tensors that were left out because they are others, too.

    Args:
        aliases: What `without_aliases` left out, and its twin.
        tensors: What it kept.

    Raises:
        ValueError: The twin is not there, or it was not left out.
    """
    for name, source in aliases.items():
        if name in tensors or source not in tensors:
            raise ValueError(f"shared_tensors.{shown(name)} cannot be {shown(source)}")
    return {name: tensors[source] for name, source in aliases.items()}


def check_ties(policy: torch.nn.Module, aliases: Mapping[str, str]) -> None:
    """Raises `ValueError` unless the same weights are tied in a policy.

    Args:
        policy: The policy.
        aliases: What `without_aliases` left out, and its twin.
    """
    present = {f"policy.{name}": value for name, value in stored_state(policy).items()}
    _, tied = without_aliases(present)
    for name, source in aliases.items():
        if tied.get(name) != source:
            raise ValueError(f"shared_tensors.{name} is not {shown(source)} in the policy")
