"""Adapters in memory as what runs, references and checkpoints can name: a directory.

A `PeftModel`, or a model of transformers with an adapter in it, is a base model with an adapter.
The adapter is kept below the hub's own folder (`HF_HOME`), in a directory that is named by what it
holds, so the same adapter is the same model in every run. Its base has to be found by its name, and
to be what lies there.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.adapter_bases import MERGE, say_other_name
from llm_gym.language_models.adapter_files import WEIGHTS, is_adapter
from llm_gym.language_models.adapter_loading import PREFIX
from llm_gym.language_models.adapters import write_adapter
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.loading import model_source
from llm_gym.language_models.lora_settings import check_config, task_of
from llm_gym.language_models.model_weights import absolute, first_difference

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

_ADVICE = "save the base with save_pretrained(DIR), and put the adapter on the model from DIR"


def has_adapter(model: Any) -> bool:
    """Whether a model is one of PEFT's, or one of transformers with an adapter in it."""
    peft = sys.modules.get("peft")  # imported, if the object is one of its
    whole = peft is not None and isinstance(model, peft.PeftModel)
    return whole or bool(getattr(model, "_hf_peft_config_loaded", False))


def kept_adapter(model: PeftModel | PreTrainedModel) -> str:
    """Keeps the adapter of a model in memory, if it is not kept already.

    Args:
        model: One that `has_adapter`. It is neither changed nor used again.

    Returns:
        The directory of the adapter.

    Raises:
        ValueError: The adapter is no single LoRA that is switched on, or its base is not what is
            found under its name.
        FileNotFoundError, OSError: The base is not there, or the adapter cannot be written.
    """
    import peft

    what = f"model: the {type(model).__name__}"
    name = _adapter_name(model, what)
    whole = isinstance(model, peft.PeftModel)
    base: PreTrainedModel = model.get_base_model() if whole else model
    source = _source_of(base, model.peft_config[name], what)
    differs = first_difference(base, source)
    if differs is not None:
        raise ValueError(
            f"model: the base of the {type(model).__name__} is not what is in {source!r}, by which "
            f"runs and checkpoints find it ({differs!r} differs); {_ADVICE}"
        )
    config = copy.deepcopy(model.peft_config[name])
    config.task_type = config.task_type or task_of(base)
    found = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    prefix = "" if whole else PREFIX
    state = {prefix + key: tensor.detach().cpu().contiguous() for key, tensor in found.items()}
    directory = _cache() / _digest(config, state, source)
    if not (directory / WEIGHTS).is_file():
        _keep(directory, config, state, source, base)
    return str(directory)


def _adapter_name(model: PeftModel | PreTrainedModel, what: str) -> str:
    """The name of the adapter that a model computes with."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for config in model.peft_config.values():
        if config.peft_type != "LORA":
            kind = getattr(config.peft_type, "value", config.peft_type)
            raise ValueError(
                f"{what} has an adapter of the kind {kind!s:.80}, and only LoRA is supported; "
                "merge it into its base (merge_and_unload), save that, and pass the directory"
            )
    names: Any = model.active_adapters  # a method of transformers' own models
    active = list(names() if callable(names) else names)
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if len(active) != 1:
        raise ValueError(
            f"{what} computes with {len(active)} adapters ({', '.join(active)}); choose one with "
            "set_adapter(NAME)"
        )
    if any(layer.merged for layer in layers):
        raise ValueError(f"{what} has its adapter merged into its base; call unmerge_adapter()")
    if any(layer.disable_adapters for layer in layers):
        raise ValueError(
            f"{what} has its adapter switched off, and computes its base alone; call "
            "base_model.enable_adapter_layers()"
        )
    check_config(model.peft_config[active[0]], MERGE)
    return str(active[0])


def _source_of(base: PreTrainedModel, config: LoraConfig, what: str) -> str:
    """Directory or hub name of a base."""
    name = str(base.name_or_path or config.base_model_name_or_path or "")
    if not name:
        raise ValueError(
            f"{what} has a base without a name, by which runs and checkpoints find it; {_ADVICE}"
        )
    if is_adapter(resolve(name)):
        raise ValueError(
            f"{what} has the base {name!r}, which is an adapter, too; merge that one first "
            "(llm-gym merge)"
        )
    say_other_name(str(config.base_model_name_or_path or ""), name, what)
    return absolute(model_source(name))


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "llm_gym" / "adapters"


def _digest(config: LoraConfig, state: dict[str, torch.Tensor], source: str) -> str:
    import torch

    settings = {**config.to_dict(), "base_model_name_or_path": source, "inference_mode": True}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=_plain).encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)


def _keep(
    directory: Path,
    config: LoraConfig,
    state: dict[str, torch.Tensor],
    source: str,
    base: PreTrainedModel,
) -> None:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
            whole = Path(temporary) / directory.name
            whole.mkdir()
            write_adapter(whole, config, state, source, base)
            if not directory.exists():  # another process may have been faster, with the same
                whole.rename(directory)
    except OSError as error:
        raise OSError(
            f"model: the adapter of the PeftModel cannot be kept in {directory.parent} ({error}); "
            "set HF_HOME to a folder that can be written, or save it with save_pretrained and pass "
            "that directory"
        ) from error
