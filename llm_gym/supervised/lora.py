"""LoRA in training: the settings of an adapter, and the adapter in the model to be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files.settings import setting
from llm_gym.language_models.adapter_files import base_of, is_same_directory
from llm_gym.language_models.adapters import adapter_of, add_adapter, is_adapter, lora_config
from llm_gym.language_models.embedded import fetch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"
"""PEFT's word for every linear layer but the output layer."""


@dataclass(frozen=True)
class LoraSettings:
    """Settings of a new LoRA adapter, which is trained in the place of the model.

    A scale of 32 whatever the rank, adapters in all layers, and about ten times the learning rate
    of a training of all weights are what "LoRA Without Regret" found to be as good as that
    (Schulman and Thinking Machines Lab 2025, https://thinkingmachines.ai/blog/lora).

    Raises:
        ValueError: Something is said of an adapter that is not asked for, or no layer is named.
    """

    lora_rank: int = setting(
        0, "rank of a LoRA adapter to train, the model itself frozen; 0 trains the whole model"
    )
    lora_alpha: int = setting(32, "scale of the adapter: its product is multiplied by alpha / rank")
    lora_target_modules: str = setting(
        ALL_LINEAR, "layers that get an adapter: names, separated by commas, or all-linear"
    )

    def __post_init__(self) -> None:
        for part in fields(LoraSettings):
            value = getattr(self, part.name)
            if not self.lora_rank and value != part.default:
                raise ValueError(
                    f"{part.name}={value!r} is of a LoRA adapter, and lora_rank=0 trains the whole "
                    "model; give lora_rank, too"
                )
        if not self.lora_target_names:
            raise ValueError(
                f"lora_target_modules={self.lora_target_modules!r} names no layer; name some, "
                f"separated by commas, or all by {ALL_LINEAR!r}"
            )

    @property
    def lora_target_names(self) -> list[str]:
        """The names in `lora_target_modules`."""
        names = (name.strip() for name in str(self.lora_target_modules).split(","))
        return [name for name in names if name]

    @property
    def lora(self) -> dict[str, Any] | None:
        """The settings as fields of `peft.LoraConfig`; None without an adapter."""
        if not self.lora_rank:
            return None
        names = self.lora_target_names
        targets = ALL_LINEAR if names == [ALL_LINEAR] else names
        return {"r": self.lora_rank, "lora_alpha": self.lora_alpha, "target_modules": targets}


def check_base(
    settings: LoraSettings,
    model: str | Path,
    output: str | Path | None = None,
    *,
    name: str = "model",
) -> None:
    """Refuses a new adapter on an adapter, and one in its base's place, before anything is loaded.

    Args:
        settings: Of the run.
        model: Name or path of the model that it starts from.
        output: Directory for the adapter.
        name: Of the setting that says which model.

    Raises:
        ValueError: The model is an adapter, and another is asked for; or the output directory
            holds the base.
    """
    source = fetch(model)
    if settings.lora_rank and is_adapter(source):
        raise ValueError(
            f"lora_rank={settings.lora_rank} asks for a new adapter, and {name}={str(model)!r} is "
            "one, which is trained further with its own settings: leave lora_rank out, or merge "
            "it into its base first (llm-gym merge)"
        )
    base = base_of(source) if is_adapter(source) else source if settings.lora_rank else None
    if base is not None and output is not None and is_same_directory(base, output):
        raise ValueError(
            f"{str(output)!r} holds the base model, which the adapter needs and would replace; "
            "choose another output directory"
        )


def put_adapter(
    model: PreTrainedModel,
    settings: LoraSettings,
    *,
    seed: int,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Puts the adapter that the settings ask for into a model, in place; without one does nothing.

    Args:
        model: See `llm_gym.language_models.adapters.add_adapter`.
        settings: Of the run.
        seed: Of the adapter's weights.
        more: Further fields of `peft.LoraConfig`.

    Raises:
        ImportError: PEFT is not installed.
        ValueError: The model has not the layers.
    """
    if settings.lora is not None:
        config = lora_config({**settings.lora, **(more or {})}, model, moments=2)  # of AdamW
        add_adapter(model, config, seed=seed)


def told_adapter(model: PreTrainedModel, rate: Any, default: Any) -> str | None:
    """What to say of the adapter that is trained: its size, and the learning rate if not chosen.

    Args:
        model: To be trained.
        rate: Its learning rate.
        default: What that is if nobody chooses one, for a training of all weights.

    Returns:
        One line; None for a model without an adapter.
    """
    adapter = adapter_of(model)
    if adapter is None:
        return None
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in model.parameters())
    told = (
        f"a LoRA adapter of rank {adapter.config.r} is trained: {learnt:,} of {everything:,} "
        "parameters"
    )
    if rate != default:
        return told
    return (
        f"{told}; learning_rate={rate:g} is the default, and an adapter learns best at about ten "
        "times the rate that is best for all weights"
    )
