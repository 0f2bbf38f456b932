"""LoRA adapters, by PEFT: put into a model, saved, loaded, taken out, merged into the weights.

A model with an adapter is the Hugging Face model that it was: the linear layers that the adapter
is for have become PEFT's, which add a product of two small matrices to what the layer computes. The
base is frozen and the adapter alone is trained (Hu et al. 2021, arXiv:2106.09685).

No part of this library switches an adapter on and off. Whoever needs the base alone, or another
adapter on it, has a module tree of its own, whose frozen parameters are the same tensors: see
`llm_gym.language_models.sharing`.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm_gym.language_models.adapter_files import (
    CONFIG,
    WEIGHTS,
    base_metadata,
    is_adapter,
    sort_metadata,
)
from llm_gym.language_models.adapter_loading import NAME, ORIGIN, PREFIX, inject, load_adapter
from llm_gym.language_models.embedded import fetch
from llm_gym.language_models.fingerprint import fingerprint_of_base
from llm_gym.language_models.lora_settings import lora_config, peft_library
from llm_gym.language_models.sharing import frozen_twin, share_weights, trainable_twin

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from torch import nn
    from transformers import PreTrainedModel

__all__ = [
    "Adapter",
    "adapter_of",
    "add_adapter",
    "frozen_twin",
    "is_adapter",
    "load_adapter",
    "lora_config",
    "merge",
    "save_model",
    "share_weights",
    "trainable_twin",
    "without_adapter",
    "write_adapter",
]


@dataclass(frozen=True)
class Adapter:
    """The adapter in a model.

    Attributes:
        model: The model.
        base_name: Directory or hub name of the base model.
        directory: Where the adapter was loaded from; `None` if it was made new.
    """

    model: PreTrainedModel
    base_name: str
    directory: str | None

    @property
    def config(self) -> LoraConfig:
        """PEFT's configuration."""
        return self.model.peft_config[NAME]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The adapter's tensors, by the names that they have in a file of PEFT's."""
        state = peft_library().get_peft_model_state_dict(
            self.model, adapter_name=NAME, save_embedding_layers=False
        )
        return {PREFIX + name: tensor.detach() for name, tensor in state.items()}

    def save(self, directory: str | Path) -> None:
        """Writes a directory that PEFT, transformers and `load_adapter` open.

        Args:
            directory: Made if it is not there.

        Raises:
            ValueError: A model lies there.
        """
        directory = Path(directory)
        if (directory / "config.json").is_file():
            raise ValueError(
                f"{str(directory)!r} holds a model, on which transformers would put the adapter: "
                "save the adapter in a directory of its own"
            )
        directory.mkdir(parents=True, exist_ok=True)
        write_adapter(directory, self.config, self.state_dict(), self.base_name, self.model)


def write_adapter(
    directory: Path,
    config: LoraConfig,
    state: Mapping[str, torch.Tensor],
    base_name: str,
    model: PreTrainedModel,
) -> None:
    """Writes an adapter's settings and tensors.

    Args:
        directory: Where to; it is there.
        config: The settings; not changed.
        state: The tensors, by PEFT's names.
        base_name: Directory or hub name of the base model.
        model: Whose generation config goes with them, if it generates.
    """
    from safetensors.torch import save_file

    config = copy.deepcopy(config)
    config.base_model_name_or_path, config.inference_mode = base_name, True
    if isinstance(config.target_modules, set):
        config.target_modules = sorted(config.target_modules)  # the same file every time
    config.save_pretrained(str(directory))
    metadata = base_metadata(base_name, fingerprint_of_base(model))
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, directory / WEIGHTS, metadata=metadata)
    sort_metadata(directory / WEIGHTS)
    if model.can_generate():
        model.generation_config.save_pretrained(directory)


def adapter_of(model: nn.Module) -> Adapter | None:
    """The adapter that `add_adapter` or `load_adapter` put into a model; `None` without one."""
    origin = getattr(model, ORIGIN, None)
    return None if origin is None else Adapter(model, *origin)


def add_adapter(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> None:
    """Puts a new adapter into a model, in place, and freezes everything else.

    The model computes what it did before, but where `config` says otherwise
    (`init_lora_weights=False`). The adapter's weights are float32, or float64 in a model of that.

    Args:
        model: A model without an adapter.
        config: From `lora_config`.
        seed: Of the adapter's weights; the global generator is left as it was.

    Raises:
        ImportError: PEFT is not installed.
        ValueError: The model has an adapter already, or PEFT finds no layer to adapt.
    """
    import torch

    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError("the model has an adapter already: merge that one first (llm-gym merge)")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject(model, config)
    name = str(model.name_or_path)
    base = str(Path(name).resolve()) if Path(name).is_dir() else name
    setattr(model, ORIGIN, (base, None))


def save_model(model: PreTrainedModel, directory: str | Path) -> None:
    """Saves a model, or of one with an adapter that adapter alone.

    Args:
        model: Any model of transformers.
        directory: Made if it is not there.

    Raises:
        ValueError: A model lies where an adapter is to be, or the other way round.
    """
    adapter = adapter_of(model)
    if adapter is None:
        if (Path(directory) / CONFIG).is_file():
            raise ValueError(
                f"{str(directory)!r} holds an adapter, which transformers would put on the model: "
                "save the model in a directory of its own"
            )
        model.save_pretrained(directory)
    else:
        adapter.save(directory)


def without_adapter(model: PreTrainedModel, *, merged: bool = False) -> PreTrainedModel:
    """Takes the adapter out of a model, in place: its layers are plain ones again.

    Args:
        model: A model; one without an adapter stays as it is.
        merged: Add the adapter to the weights first. The weights must be the model's own, and not
            shared with another.

    Returns:
        The same model.
    """
    if adapter_of(model) is None:
        return model
    for name, layer in list(model.named_modules()):
        parent, _, attribute = name.rpartition(".")
        if hasattr(layer, "original_module"):  # one of `modules_to_save`
            inner = layer.original_module
            if merged:  # in the type of the base, which the trained one is not always in
                inner = copy.deepcopy(inner)
                inner.load_state_dict(layer.modules_to_save[NAME].state_dict())
        elif hasattr(layer, "get_base_layer"):
            if merged:
                _untie(model, layer.get_base_layer())
                layer.merge(safe_merge=True)
            inner = layer.get_base_layer()
        else:
            continue
        setattr(model.get_submodule(parent), attribute, inner)
    del model.peft_config
    delattr(model, ORIGIN)
    model._hf_peft_config_loaded = False
    return model


def _untie(model: PreTrainedModel, layer: nn.Module) -> None:
    """Gives a layer weights of its own, if another has the same: only this one's are to change."""
    from torch.nn import Parameter

    weight = layer.get_parameter("weight")
    users = [module for module in model.modules() if module._parameters.get("weight") is weight]
    if len(users) > 1:
        layer.weight = Parameter(weight.detach().clone(), weight.requires_grad)


def merge(directory: str | Path, output: str | Path) -> None:
    """Writes an adapter and its base as one plain model, tokenizer included.

    Args:
        directory: An adapter.
        output: A directory for `AutoModelForCausalLM.from_pretrained`, or of a classifier's adapter
            for that of classifiers, made if it is not there; the weights have the type of the
            base's files.

    Raises:
        ValueError: It is no adapter; or see `load_adapter`.
    """
    from llm_gym.language_models.classifier_adapters import is_classifier, load_classifier
    from llm_gym.language_models.loading import load_tokenizer

    source = Path(fetch(directory))
    if not is_adapter(source):
        raise ValueError(
            f"{str(source)!r} is no adapter (it has no adapter_config.json, or a model beside it): "
            "there is nothing to merge"
        )
    if is_classifier(source):
        model = without_adapter(load_classifier(source, dtype="auto"), merged=True)
    else:
        model = without_adapter(load_adapter(source, dtype="auto"), merged=True)
        tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        model.config.get_text_config(decoder=True).tie_word_embeddings = tied
        model.config.tie_word_embeddings = tied
    save_model(model, output)
    load_tokenizer(source).save_pretrained(output)
    for extra in source.glob("value_head.safetensors"):
        shutil.copyfile(extra, Path(output) / extra.name)
