"""Models in memory as what every door takes: a name.

Runs, references and checkpoints know a model by its name, so that they can be gone on with in
another process. A model in memory is what lies under its name, or it has to be saved first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from llm_gym.language_models.adapter_objects import has_adapter, kept_adapter
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.loading import model_source
from llm_gym.language_models.model_weights import absolute, first_difference

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

ModelLike: TypeAlias = "str | Path | PreTrainedModel | PeftModel"
"""What every door takes as a model: a name or path, or one in memory."""

_ADVICE = "save it with save_pretrained(DIR), its tokenizer beside it, and pass DIR"


def named(model: ModelLike | None, parameter: str = "model") -> Any:
    """A model by its name, whatever it was given as.

    Args:
        model: A name or path; a model of transformers, which is what lies under its name; one with
            a LoRA adapter, such as a `PeftModel`, whose adapter is kept
            (`llm_gym.language_models.adapter_objects`).
        parameter: What it is for, in messages.

    Returns:
        The name, or the directory as a text. None stays None. An object is neither changed nor used
        again.

    Raises:
        TypeError: It is none of these.
        ValueError: The object is not what is found under its name, or has no name; or see
            `llm_gym.language_models.adapter_objects.kept_adapter`.
        FileNotFoundError, OSError: What it is named after is not there.
    """
    if model is None or isinstance(model, str):
        return model
    if isinstance(model, Path):
        # A path never means a name on the hub, whose form it may have.
        return str(model) if os.path.exists(resolve(model)) else os.path.join(".", model)
    if has_adapter(model):
        return kept_adapter(model)
    transformers = sys.modules.get("transformers")  # imported, if the object is one of its
    if transformers is None or not isinstance(model, transformers.PreTrainedModel):
        shown = " ".join(repr(model).split())
        raise TypeError(
            f"{parameter}={shown:.80} must be the name or path of a model, a PreTrainedModel or a "
            f"PeftModel, not a {type(model).__name__}"
        )
    what = f"{parameter}: the {type(model).__name__}"
    if not model.name_or_path:
        raise ValueError(f"{what} has no name, by which runs and checkpoints find it; {_ADVICE}")
    source = absolute(model_source(model.name_or_path))
    differs = first_difference(model, source)
    if differs is not None:
        raise ValueError(
            f"{what} is not what is in {source!r}, by which runs and checkpoints find it "
            f"({differs!r} differs); {_ADVICE}"
        )
    return source
