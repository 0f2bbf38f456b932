"""What a checkpoint holds of a policy with a LoRA adapter: all but the base, which is named.

The base is frozen, so it is where the run's model came from, and stays what it was. A checkpoint
knows it by a fingerprint, and has the adapter's settings: another rate or rank of scaling would
change the policy without changing the shape of any tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm_gym.files.ranges import shown
from llm_gym.files.schema import anything, record, text
from llm_gym.language_models.adapters import adapter_of
from llm_gym.runs.digests import digest_of

if TYPE_CHECKING:
    import torch
    from torch import nn

_SETTINGS = (
    "r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
    "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "modules_to_save",
)  # fmt: skip

ADAPTER = record({"settings": record({}, others=anything), "base_sha256": text})
"""What `adapter_state` gives, of a policy with an adapter."""


def stored_state(policy: nn.Module) -> dict[str, torch.Tensor]:
    """A policy's tensors by name, but for those of the frozen base below an adapter."""
    state = policy.state_dict()
    base = {tensor.data_ptr() for tensor in _base(policy).values()}
    return {name: tensor for name, tensor in state.items() if tensor.data_ptr() not in base}


def adapter_state(policy: nn.Module) -> dict[str, Any] | None:
    """Settings of a policy's adapter and a fingerprint of its base, JSON-able; None without one."""
    adapter = adapter_of(policy.model) if hasattr(policy, "model") else None  # type: ignore[arg-type]
    if adapter is None:
        return None
    settings = {name: _plain(getattr(adapter.config, name, None)) for name in _SETTINGS}
    return {"settings": settings, "base_sha256": digest_of(_base(policy))}


def check_adapter(policy: nn.Module, saved: Mapping[str, Any] | None) -> None:
    """Raises `ValueError` unless a policy has the adapter and the base that a checkpoint is of.

    Args:
        policy: The policy.
        saved: From `adapter_state`.
    """
    present = adapter_state(policy)
    if saved is None and present is None:
        return
    if saved is None:
        raise ValueError(
            "it is of a policy without a LoRA adapter, and this one has one; build the algorithm "
            "without lora, and with the model that the run started from"
        )
    if present is None:
        rank = shown(saved["settings"].get("r"))
        raise ValueError(
            f"it is of a policy with a LoRA adapter (r={rank}), and this one has none; build the "
            "algorithm with the policy_kwargs of the saved run"
        )
    for name, value in present["settings"].items():
        was = saved["settings"].get(name)
        if was != value:
            raise ValueError(
                f"its LoRA adapter has {name}={shown(was)}, the policy's has {shown(value)}; "
                "build the algorithm with the lora settings of the saved run"
            )
    if saved["base_sha256"] != present["base_sha256"]:
        raise ValueError(
            "the base below its LoRA adapter is not the policy's; build the algorithm with the "
            "model that the run started from"
        )


def _base(policy: nn.Module) -> dict[str, torch.Tensor]:
    """The frozen parameters below an adapter, by the names that the base gives them."""
    model: Any = getattr(policy, "model", None)
    if model is None or adapter_of(model) is None:
        return {}
    return {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad
    }


def _plain(value: Any) -> Any:
    """Sets in order, so that equal ones are equal lists."""
    return sorted(value) if isinstance(value, (set, tuple)) else value
