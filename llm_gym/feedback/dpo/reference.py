"""The model that DPO stays close to, without a second copy of weights that are there already."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from llm_gym.language_models import load_causal_lm, resolve
from llm_gym.language_models.adapters import (
    adapter_of,
    frozen_twin,
    share_weights,
    without_adapter,
)
from llm_gym.language_models.architecture import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def reference_of(model: PreTrainedModel, name: str, reference: str) -> PreTrainedModel:
    """The reference, on the model's device, before the model has learnt anything.

    Args:
        model: To be trained. A new adapter does nothing yet, so the model is its base.
        name: From where the model was loaded.
        reference: Name or path of the reference; empty for the model itself.

    Returns:
        The model itself; or another, of which what is frozen in the model and the same in both is
        the model's.

    Raises:
        ValueError: The two have different vocabularies.
    """
    if not reference or reference == name:
        return model
    adapter = adapter_of(model)
    if adapter is not None and _place(reference) == _place(adapter.base_name):
        return without_adapter(frozen_twin(model))
    other = load_causal_lm(reference, dtype=model.dtype)
    found, expected = vocabulary_size(other), vocabulary_size(model)
    if found != expected:
        raise ValueError(
            f"reference={reference!r} has {found} tokens but model={name!r} has {expected}; they "
            "need the same vocabulary"
        )
    other.to(model.device)
    if adapter is not None:
        share_weights(other, model)
    return other


def _place(name: str) -> str:
    source = resolve(name)
    return os.path.realpath(source) if Path(source).is_dir() else source
