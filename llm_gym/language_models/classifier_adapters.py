"""LoRA adapters of sequence classifiers, saved with their head (PEFT's `modules_to_save`).

    adapter_model.safetensors   the adapter, and the modules that the base has not: the head
    classifier_config.json      what the classifier's configuration says beyond the base's

PEFT opens such a directory on `AutoModelForSequenceClassification.from_pretrained(base, ...)`, and
what PEFT saved for the task SEQ_CLS opens here; the second file may be missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.adapter_files import (
    WEIGHTS,
    base_of,
    is_trained_whole,
    read_object,
    read_settings,
)
from llm_gym.language_models.adapters import load_adapter
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.memory import check_loading
from llm_gym.language_models.wide_modules import widen_module

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONFIG = "classifier_config.json"
TASK = "SEQ_CLS"
"""What PEFT calls it."""

_HEADS = ("score.weight", "classifier.weight", "classifier.out_proj.weight")


def is_classifier(directory: str | Path) -> bool:
    """Whether an adapter is of a classifier."""
    return bool(read_settings(directory).get("task_type") == TASK)


def read_classifier_config(directory: str | Path) -> dict[str, Any]:
    """What the classifier's configuration says beyond the base's; nothing without the file.

    Raises:
        ValueError: The file cannot be read.
    """
    path = Path(directory) / CONFIG
    if not path.is_file():
        return {}
    return read_object(path)


def write_classifier_config(model: PreTrainedModel, directory: str | Path, *names: str) -> None:
    """Writes what `load_classifier` puts into the configuration again.

    Args:
        model: A classifier with an adapter.
        directory: Where the adapter is saved.
        *names: Attributes of the configuration, beyond labels and padding.
    """
    config = model.config
    content = {name: getattr(config, name) for name in ("pad_token_id", *names)}
    if config.num_labels > 1:
        content["id2label"] = {str(index): name for index, name in config.id2label.items()}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (Path(directory) / CONFIG).write_text(text, encoding="utf-8")


def load_classifier(
    directory: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    trainable: bool = False,
) -> PreTrainedModel:
    """Loads a sequence classifier that was saved as an adapter, in evaluation mode.

    Args:
        directory: Of the adapter.
        dtype: Type of the base's weights in memory; `None` means float32.
        trainable: Whether adapter and head are to be trained further.

    Returns:
        The model, on the CPU.

    Raises:
        ImportError: PEFT is not installed.
        ValueError: The base cannot be a classifier, does not fit into memory, or see
            `llm_gym.language_models.adapters.load_adapter`.
        OSError: The base cannot be had from the hub.
    """
    import torch

    from llm_gym.language_models.loading import (
        check_safetensors,
        load_tokenizer,
        model_source,
        refuse_oversized,
    )

    directory = Path(resolve(directory))
    if not is_classifier(directory):
        raise ValueError(
            f"{str(directory)!r} is an adapter of a language model: it has no head that scores "
            "texts; train a reward model from it first (llm-gym reward-model)"
        )
    base = model_source(base_of(directory))
    check_safetensors(base)
    refuse_oversized(base)
    check_loading(base, dtype)
    extra = read_classifier_config(directory)
    labels = _labels(directory)
    with torch.random.fork_rng(devices=[]):  # the head is drawn before it is read
        try:
            model, new = with_labels(base, labels, dtype)
        except Exception as error:  # transformers raises OSError, ValueError, KeyError, ...
            raise ValueError(
                f"{base!r}, the base of the adapter {str(directory)!r}, cannot be loaded as a "
                f"sequence classifier: {error}"
            ) from error
        widen(model, load_tokenizer(directory))
    saved = read_settings(directory).get("modules_to_save") or []
    lost = [name for name in sorted(new) if not is_trained_whole(name, saved)]
    if lost:
        raise ValueError(
            f"{str(directory)!r} is no whole classifier: neither it nor its base {base!r} has "
            f"{lost[0]!r}, which would be random"
        )
    model = load_adapter(directory, trainable=trainable, base_model=model)
    for name, value in extra.items():
        if name == "id2label" and isinstance(value, dict):
            value = {int(index): label for index, label in value.items()}
        setattr(model.config, name, value)
    model.config.get_text_config().pad_token_id = model.config.pad_token_id
    model.config.name_or_path = str(directory)
    return model


def with_labels(
    source: str, labels: int, dtype: torch.dtype | str | None = None
) -> tuple[PreTrainedModel, set[str]]:
    """Makes a sequence classifier of a model's weights.

    Args:
        source: A directory or a name on the hub.
        labels: How many; a head for another number of them is replaced.
        dtype: Type of the weights in memory; `None` means float32. The head's are float32 at least.

    Returns:
        The classifier, and the names of the parameters that the checkpoint lacks: they are random.

    Raises:
        Exception: Whatever transformers raises (`OSError`, `ValueError`, `KeyError`, ...).
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    model, info = AutoModelForSequenceClassification.from_pretrained(
        source,
        num_labels=labels,
        ignore_mismatched_sizes=True,
        dtype=torch.float32 if dtype is None else dtype,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    _keep_head_wide(model)
    return model, {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}


def _keep_head_wide(model: PreTrainedModel) -> None:
    """Has head and pooler compute in float32: scores in 16 bits are coarse, too."""
    parts = dict(model.named_children())
    trunk = parts.pop(model.base_model_prefix, None)
    pooler = getattr(trunk, "pooler", None)
    for module in parts.values() if pooler is None else [*parts.values(), pooler]:
        widen_module(module, back=False)


def widen(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Gives tokens that the base has not an embedding of zeros; padding is such a token.

    An adapter does not keep embeddings, so these must be the same wherever it is loaded.

    Args:
        model: Changed in place.
        tokenizer: Whose tokens it is to read.
    """
    import torch

    before = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > before:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            model.get_input_embeddings().weight[before:] = 0


def _labels(directory: Path) -> int:
    """How many labels the head has that was saved."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(directory / WEIGHTS, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - it is no dict
                if name.endswith(_HEADS) and "lora_" not in name:
                    return int(weights.get_slice(name).get_shape()[0])
    except (SafetensorError, OSError):
        pass  # `load_adapter` says what is wrong with the file
    return 1
