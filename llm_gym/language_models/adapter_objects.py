"""PEFT's model objects as what runs, references and checkpoints can name: a directory.

A `PeftModel` is a base model with an adapter, in memory. Its adapter is kept below the hub's own
folder (`HF_HOME`), in a directory that is named by what it holds, so the same adapter is the same
model in every run. Its base has to be found by its name, and to be what lies there.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.adapter_files import WEIGHTS, is_adapter
from llm_gym.language_models.adapters import write_adapter
from llm_gym.language_models.classifier_adapters import TASK, with_labels
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.loading import load_causal_lm, model_source, only_errors_logged
from llm_gym.language_models.lora_settings import check_config, task_of

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

_ADVICE = "save the base with save_pretrained(DIR), and put the adapter on the model from DIR"


def named(model: Any) -> Any:
    """A model by its name, where it is an object of PEFT's: the directory of its adapter.

    Args:
        model: A `PeftModel`, whose adapter is kept; anything else stays as it is.

    Returns:
        The directory, or what was given. The object is neither changed nor used again.

    Raises:
        ValueError: Its adapter is no single LoRA that is switched on, or its base is not what is
            found under its name.
        FileNotFoundError, OSError: Its base is not there, or the adapter cannot be written.
    """
    peft = sys.modules.get("peft")  # imported, if the object is one of its
    if peft is None or not isinstance(model, peft.PeftModel):
        return model
    name = _adapter_name(model)
    base: PreTrainedModel = model.get_base_model()
    source = _source_of(base, model.peft_config[name])
    _check_base(base, source)
    config = copy.deepcopy(model.peft_config[name])
    config.task_type = config.task_type or task_of(base)
    state = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    directory = _cache() / _digest(config, state, source)
    if not (directory / WEIGHTS).is_file():
        _keep(directory, config, state, source, base)
    return str(directory)


def _adapter_name(model: PeftModel) -> str:
    """The name of the adapter that a model computes with."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    what = f"model: the {type(model).__name__}"
    for config in model.peft_config.values():
        if config.peft_type != "LORA":
            kind = getattr(config.peft_type, "value", config.peft_type)
            raise ValueError(
                f"{what} has an adapter of the kind {kind!s:.80}, and only LoRA is supported; "
                "merge it into its base (merge_and_unload), save that, and pass the directory"
            )
    active = list(model.active_adapters)
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
    check_config(model.peft_config[active[0]])
    return str(active[0])


def _source_of(base: PreTrainedModel, config: LoraConfig) -> str:
    """Directory or hub name of a base."""
    name = str(base.name_or_path or config.base_model_name_or_path or "")
    if not name:
        raise ValueError(
            "model: the base of the PeftModel has no name, by which runs and checkpoints find it; "
            f"{_ADVICE}"
        )
    source = model_source(name)
    if is_adapter(resolve(name)):
        raise ValueError(
            f"model: the base of the PeftModel is {name!r}, which is an adapter, too; merge that "
            "one first (llm-gym merge)"
        )
    return str(Path(source).resolve()) if Path(source).is_dir() else source


def _check_base(base: PreTrainedModel, source: str) -> None:
    """Refuses a base that is not what its name says: merged, resized, trained or quantised."""
    import torch

    if task_of(base) == TASK:
        with torch.random.fork_rng(devices=[]), only_errors_logged():
            there, new = with_labels(source, base.config.num_labels, base.dtype)
    else:
        there, new = load_causal_lm(source, dtype=base.dtype), set()
    ours = {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): parameter
        for name, parameter in base.named_parameters(remove_duplicate=False)
    }
    for name, parameter in there.named_parameters():
        own = ours.get(name)
        if name in new or (own is not None and _equal(own, parameter)):
            continue
        raise ValueError(
            f"model: the base of the PeftModel is not what is in {source!r}, by which runs and "
            f"checkpoints find it ({name!r} differs); {_ADVICE}"
        )


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    import torch

    return one.shape == other.shape and torch.equal(one.detach().cpu().to(other.dtype), other)


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
