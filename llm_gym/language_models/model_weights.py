"""Whether a model in memory is what lies under its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm_gym.language_models.classifier_adapters import TASK, with_labels
from llm_gym.language_models.loading import check_safetensors, load_causal_lm, only_errors_logged
from llm_gym.language_models.lora_settings import task_of
from llm_gym.language_models.memory import check_loading

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def absolute(source: str) -> str:
    """A directory by its whole path; a name on the hub as it is."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source


def first_difference(model: PreTrainedModel, source: str) -> str | None:
    """The first parameter of a model that is not what lies under its name.

    Args:
        model: Its adapters count as nothing: the base below them is compared. Where the checkpoint
            lacks a parameter, such as a new head, nothing can differ.
        source: Directory or hub name.

    Returns:
        Its name, or None: every parameter that is there is in the model, equal to the bit.

    Raises:
        FileNotFoundError, OSError, ValueError: What lies there cannot be loaded.
    """
    there, new = _stored(model, source)
    ours = {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): parameter
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    for name, parameter in there.named_parameters():
        own = ours.get(name)
        if name not in new and (own is None or not _equal(own, parameter)):
            return name
    return None


def _stored(model: PreTrainedModel, source: str) -> tuple[PreTrainedModel, set[str]]:
    """What lies there as a model of the same kind, and names of what the checkpoint lacks."""
    import torch

    if task_of(model) == TASK:
        with torch.random.fork_rng(devices=[]), only_errors_logged():
            return with_labels(source, model.config.num_labels, model.dtype)
    if model.can_generate() or not type(model).__module__.startswith("transformers."):
        return load_causal_lm(source, dtype=model.dtype), set()
    check_safetensors(source)
    check_loading(source, model.dtype)
    with torch.random.fork_rng(devices=[]), only_errors_logged():
        there, info = type(model).from_pretrained(
            source,
            dtype=model.dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    return there, set(info["missing_keys"])


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    import torch

    return one.shape == other.shape and torch.equal(one.detach().cpu().to(other.dtype), other)
