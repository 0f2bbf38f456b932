"""Adapters read from a directory: what it says is checked before PEFT makes layers of it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llm_gym.language_models.adapter_bases import (
    MERGE,
    OtherBaseWarning,
    is_same,
    other_vocabulary,
    say_other_base,
    take_base_out,
)
from llm_gym.language_models.adapter_files import WEIGHTS, base_of, is_trained_whole, read_settings
from llm_gym.language_models.architecture import vocabulary_size
from llm_gym.language_models.embedded import fetch
from llm_gym.language_models.lora_settings import check_config, no_match, peft_library, task_of
from llm_gym.language_models.wide_modules import widen_module

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from transformers import PreTrainedModel

__all__ = ["NAME", "ORIGIN", "PREFIX", "OtherBaseWarning", "inject", "load_adapter"]

#: PEFT's own name for an adapter that nobody named.
NAME = "default"
#: Of every name in a file of PEFT's.
PREFIX = "base_model.model."
#: Attribute of a model with an adapter: its base, and where the adapter was loaded from.
ORIGIN = "_llm_gym_adapter"


def load_adapter(
    directory: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    attn_implementation: str | None = None,
    trainable: bool = True,
    base_model: PreTrainedModel | None = None,
    new_modules: Sequence[str] = (),
) -> PreTrainedModel:
    """Loads a base model with an adapter on it, in evaluation mode.

    Args:
        directory: What `Adapter.save` or PEFT wrote; it names its base.
        dtype: Type of the base's weights in memory; see `load_causal_lm`. The adapter's are float32
            at least.
        attn_implementation: As in `transformers`.
        trainable: Freeze the adapter, too, if false. The base is frozen always.
        base_model: The base, if it is loaded already, as a classifier above all; it gets the
            adapter in place. Of another model than the adapter names there is a warning.
        new_modules: Further modules of it that are to be trained, and saved with the adapter, such
            as a new head.

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

    directory = Path(fetch(directory))
    peft = peft_library()
    weights = _read_weights(directory)
    base = base_of(directory) if base_model is None else _named_base(directory)
    config = _read_config(directory, weights)
    if base_model is not None:
        model = base_model
    elif config.task_type == "SEQ_CLS":
        raise ValueError(
            f"{str(directory)!r} is an adapter of a classifier, which scores texts and writes none"
        )
    else:
        try:
            model = load_causal_lm(base, dtype=dtype, attn_implementation=attn_implementation)
        except OSError as error:
            raise type(error)(f"{str(directory)!r} is an adapter of {base!r}: {error}") from error
    unfit = f"{str(directory)!r} does not fit {base!r}, which it names as its base"
    is_other = base_model is not None and not is_same(base, str(model.name_or_path))
    if is_other:
        unfit = f"{str(directory)!r}, an adapter of {base!r}, does not fit {model.name_or_path!r}"
    tokens = other_vocabulary(model, weights)
    if tokens is not None:
        raise ValueError(
            f"{unfit}: it was trained with {tokens} tokens, and there are "
            f"{vocabulary_size(model)}; if tokens were added, resize the base as then "
            f"(resize_token_embeddings({tokens})), and {MERGE}"
        )
    changed = take_base_out(model, weights, config.modules_to_save or ())
    if changed is not None:
        raise ValueError(
            f"{unfit}: {changed!r}, which was saved with it, is not what is there; if it is the "
            f"same model, with tokens that were added, {MERGE}"
        )
    if new_modules:
        config.modules_to_save = sorted({*(config.modules_to_save or ()), *new_modules})
        config.task_type = task_of(model)
        for name, tensor in model.state_dict().items():
            if is_trained_whole(name, new_modules):
                weights.setdefault(name, tensor)  # PEFT wants them from the file
    given, config.inference_mode = copy.copy(config.target_modules), not trainable
    advice = "is it an adapter of another model?"
    try:
        inject(model, config)
    except ValueError as error:
        raise ValueError(f"{unfit}: {no_match(given, model)}; {advice}") from error
    try:
        result = peft.set_peft_model_state_dict(model, weights, NAME)
    except (RuntimeError, KeyError) as error:  # PyTorch lists all tensors that do not fit
        first = [line.strip() for line in str(error).splitlines() if not line.endswith(":")][:1]
        raise ValueError(f"{unfit} ({first[0] if first else error}); {advice}") from error
    absent = {name for name, p in model.named_parameters() if _is_of_adapter(name)}
    absent &= set(result.missing_keys)
    if absent or result.unexpected_keys:
        name = sorted([*absent, *result.unexpected_keys])[0]
        where = "a layer that the base has not" if name in result.unexpected_keys else "no weights"
        raise ValueError(f"{unfit}: it has {where} for {name!r}; {advice}")
    refuse_diverged(model, directory)
    say_other_base(model, directory, base)
    # By the second checkpoints find it.
    setattr(model, ORIGIN, (str(model.name_or_path) if is_other else base, str(directory)))
    return model.eval()


def _named_base(directory: Path) -> str:
    """The base that an adapter names, whether or not it is here."""
    try:
        return base_of(directory)
    except ValueError:
        return str(read_settings(directory).get("base_model_name_or_path") or "")


def inject(model: PreTrainedModel, config: LoraConfig) -> None:
    """Has PEFT put an adapter's layers into a model, in place, and freeze everything else.

    What is trained is float32 at least, `modules_to_save` included: an optimizer step on 16 bits is
    mostly lost, and these are few.
    """
    peft = peft_library()
    from llm_gym.language_models.adapter_layers import save_memory

    with _quiet_about_conv1d():
        peft.inject_adapter_in_model(config, model, NAME)
    save_memory(model)
    model._hf_peft_config_loaded = True  # transformers' own methods go by it
    model.train(model.training)  # new layers are made in training mode
    for name, parameter in model.named_parameters():
        if "lora_" in name and parameter.element_size() < 4:
            parameter.data = parameter.data.float()
    head = model.get_output_embeddings()
    for module in list(model.modules()):
        if isinstance(module, peft.utils.ModulesToSaveWrapper):
            widen_module(module.modules_to_save[NAME], back=module is not head)


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
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is corrupt ({error}); copy or save it again") from error
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(
                f"{path}: {name!r} has numbers of {tensor.dtype}, and an adapter's are "
                "floating-point; save it again with PEFT's save_pretrained"
            )
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _read_config(directory: Path, weights: dict[str, torch.Tensor]) -> LoraConfig:
    peft = peft_library()
    read_settings(directory)
    try:
        config = peft.PeftConfig.from_pretrained(str(directory))
        check_config(config, f"if PEFT wrote it so, {MERGE}")
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
    return f".{NAME}." in name or name.endswith(f".{NAME}")
