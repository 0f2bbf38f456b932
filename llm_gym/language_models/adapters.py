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
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm_gym.language_models.adapter_files import (
    CONFIG,
    WEIGHTS,
    base_metadata,
    base_of,
    is_adapter,
    read_settings,
)
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.lora_settings import (
    check_config,
    lora_config,
    no_match,
    peft_library,
)
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
]

_NAME = "default"  # PEFT's own for an adapter that nobody named
_PREFIX = "base_model.model."  # of every name in a file of PEFT's
_ORIGIN = "_llm_gym_adapter"


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
        return self.model.peft_config[_NAME]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The adapter's tensors, by the names that they have in a file of PEFT's."""
        state = peft_library().get_peft_model_state_dict(
            self.model, adapter_name=_NAME, save_embedding_layers=False
        )
        return {_PREFIX + name: tensor.detach() for name, tensor in state.items()}

    def save(self, directory: str | Path) -> None:
        """Writes a directory that PEFT, transformers and `load_adapter` open.

        Args:
            directory: Made if it is not there.

        Raises:
            ValueError: A model lies there.
        """
        from safetensors.torch import save_file

        directory = Path(directory)
        if (directory / "config.json").is_file():
            raise ValueError(
                f"{str(directory)!r} holds a model, on which transformers would put the adapter: "
                "save the adapter in a directory of its own"
            )
        directory.mkdir(parents=True, exist_ok=True)
        config = copy.deepcopy(self.config)
        config.base_model_name_or_path, config.inference_mode = self.base_name, True
        if isinstance(config.target_modules, set):
            config.target_modules = sorted(config.target_modules)  # the same file every time
        config.save_pretrained(str(directory))
        state = {name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, directory / WEIGHTS, metadata=base_metadata(self.base_name))
        if self.model.can_generate():
            self.model.generation_config.save_pretrained(directory)


def adapter_of(model: nn.Module) -> Adapter | None:
    """The adapter that `add_adapter` or `load_adapter` put into a model; `None` without one."""
    origin = getattr(model, _ORIGIN, None)
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
        _inject(model, config)
    name = str(model.name_or_path)
    base = str(Path(name).resolve()) if Path(name).is_dir() else name
    setattr(model, _ORIGIN, (base, None))


def load_adapter(
    directory: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    attn_implementation: str | None = None,
    trainable: bool = True,
) -> PreTrainedModel:
    """Loads a base model with an adapter on it, in evaluation mode.

    Args:
        directory: What `Adapter.save` or PEFT wrote; it names its base.
        dtype: Type of the base's weights in memory; see `load_causal_lm`. The adapter's are float32
            at least.
        attn_implementation: As in `transformers`.
        trainable: Freeze the adapter, too, if false. The base is frozen always.

    Returns:
        The model, on the CPU.

    Raises:
        ImportError: PEFT is not installed.
        FileNotFoundError: A file of the adapter is missing.
        ValueError: The adapter is of another kind than LoRA, has settings that are not supported,
            is corrupt or does not fit its base; or the base is not here.
        OSError: The base cannot be had from the hub.
    """
    from llm_gym.language_models.loading import load_causal_lm, refuse_diverged

    directory = Path(resolve(directory))
    peft = peft_library()
    weights = _read_weights(directory)
    base = base_of(directory)
    config = _read_config(directory, weights)
    try:
        model = load_causal_lm(base, dtype=dtype, attn_implementation=attn_implementation)
    except OSError as error:
        raise type(error)(f"{str(directory)!r} is an adapter of {base!r}: {error}") from error
    given, config.inference_mode = copy.copy(config.target_modules), not trainable
    unfit = f"{str(directory)!r} does not fit {base!r}, which it names as its base"
    advice = "is it an adapter of another model?"
    try:
        _inject(model, config)
    except ValueError as error:
        raise ValueError(f"{unfit}: {no_match(given, model)}; {advice}") from error
    try:
        result = peft.set_peft_model_state_dict(model, weights, _NAME)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"{unfit} ({error}); {advice}") from error
    absent = {name for name, p in model.named_parameters() if _is_of_adapter(name)}
    absent &= set(result.missing_keys)
    if absent or result.unexpected_keys:
        name = sorted([*absent, *result.unexpected_keys])[0]
        where = "a layer that the base has not" if name in result.unexpected_keys else "no weights"
        raise ValueError(f"{unfit}: it has {where} for {name!r}; {advice}")
    refuse_diverged(model, directory)
    setattr(model, _ORIGIN, (base, str(directory)))
    return model.eval()


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
            inner = layer.modules_to_save[_NAME] if merged else layer.original_module
        elif hasattr(layer, "get_base_layer"):
            if merged:
                layer.merge(safe_merge=True)
            inner = layer.get_base_layer()
        else:
            continue
        setattr(model.get_submodule(parent), attribute, inner)
    del model.peft_config
    delattr(model, _ORIGIN)
    model._hf_peft_config_loaded = False
    return model


def merge(directory: str | Path, output: str | Path) -> None:
    """Writes an adapter and its base as one plain model, tokenizer included.

    Args:
        directory: An adapter.
        output: A directory for `AutoModelForCausalLM.from_pretrained`, made if it is not there; the
            weights have the type of the base's files.

    Raises:
        ValueError: It is no adapter; or see `load_adapter`.
    """
    from llm_gym.language_models.loading import load_tokenizer

    source = Path(resolve(directory))
    if not is_adapter(source):
        raise ValueError(
            f"{str(source)!r} is no adapter (it has no adapter_config.json, or a model beside it): "
            "there is nothing to merge"
        )
    model = without_adapter(load_adapter(source, dtype="auto"), merged=True)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.config.get_text_config(decoder=True).tie_word_embeddings = tied
    model.config.tie_word_embeddings = tied
    save_model(model, output)
    load_tokenizer(source).save_pretrained(output)
    for extra in source.glob("value_head.safetensors"):
        shutil.copyfile(extra, Path(output) / extra.name)


# ------------------------------------------------------------------ PEFT's part


def _inject(model: PreTrainedModel, config: LoraConfig) -> None:
    peft = peft_library()
    with _quiet_about_conv1d():
        peft.inject_adapter_in_model(config, model, _NAME)
    model._hf_peft_config_loaded = True  # transformers' own methods go by it
    for name, parameter in model.named_parameters():
        if "lora_" in name and parameter.element_size() < 4:
            # An optimizer step on 16 bits is mostly lost, and these are few.
            parameter.data = parameter.data.float()


@contextmanager
def _quiet_about_conv1d() -> Iterator[None]:
    """PEFT sets `fan_in_fan_out` as each layer needs it, and warns of each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        yield


def _read_weights(directory: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = directory / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(directory)!r} is an adapter without {WEIGHTS}: nothing is unpickled here, so "
            "save it again with PEFT's save_pretrained"
        )
    try:
        return {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is corrupt ({error}); copy or save it again") from error


def _read_config(directory: Path, weights: dict[str, torch.Tensor]) -> LoraConfig:
    peft = peft_library()
    read_settings(directory)
    try:
        config = peft.PeftConfig.from_pretrained(str(directory))
        check_config(config)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{directory}/adapter_config.json: {error}") from error
    numbers = sum(tensor.numel() for tensor in weights.values())
    largest = max([config.r, *config.rank_pattern.values()])
    if largest > numbers:
        raise ValueError(
            f"{directory}/adapter_config.json: rank {largest} is more than the weights can fill"
        )
    return config


def _is_of_adapter(name: str) -> bool:
    return f".{_NAME}." in name or name.endswith(f".{_NAME}")
