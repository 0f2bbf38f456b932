"""Settings of a LoRA adapter, checked against the model that is to have it."""

from __future__ import annotations

import copy
import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn
    from transformers import PreTrainedModel

#: The fields of `peft.LoraConfig` that mean here what they mean there.
SUPPORTED = (
    "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "modules_to_save",
    "init_lora_weights", "bias", "fan_in_fan_out",
)  # fmt: skip
_BOOKKEEPING = {
    "peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode",
    "peft_version", "auto_mapping", "runtime_config",
}  # fmt: skip

#: Ways to draw an adapter's weights that leave the base as it is: others would change what all
#: that share it compute.
INITS = (True, False, "gaussian", "orthogonal")


def peft_library() -> Any:
    """The module `peft`.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA adapters need PEFT: pip install 'llm-gym[lora]'") from error
    return peft


def lora_config(settings: Mapping[str, Any] | LoraConfig, model: PreTrainedModel) -> LoraConfig:
    """Makes the configuration of an adapter for a model.

    Args:
        settings: Fields of `peft.LoraConfig` by name, PEFT's defaults for what is left out, but
            `target_modules="all-linear"`; or such a configuration.
        model: The model that is to have the adapter; it is not changed.

    Returns:
        A configuration of its own, its task the model's.

    Raises:
        ImportError: PEFT is not installed.
        TypeError: The settings are neither.
        ValueError: A field is unknown, not supported or out of range, or no layer of the model is
            one of `target_modules`.
    """
    config_class = peft_library().LoraConfig
    if isinstance(settings, Mapping):
        for name in settings:
            if name not in SUPPORTED:
                raise ValueError(f"lora has no setting {name!r}{_nearest(name, SUPPORTED)}")
        check_values(settings)
        config = config_class(**copy.deepcopy(dict(settings)))
    elif isinstance(settings, config_class):
        config = copy.deepcopy(settings)
    else:
        raise TypeError(
            f"lora must be a dict of settings, such as dict(r=16), or a peft.LoraConfig, not "
            f"{type(settings).__name__}"
        )
    if config.target_modules is None:
        config.target_modules = "all-linear"
    check_config(config)
    targets = _targets(config, model)
    from transformers.pytorch_utils import Conv1D

    config.fan_in_fan_out = any(isinstance(layer, Conv1D) for layer in targets.values())
    config.task_type = task_of(model)
    config.inference_mode = False
    return config


def check_config(config: LoraConfig) -> None:
    """Refuses what is not supported of a configuration, be it given or read.

    Raises:
        ValueError: Naming the field.
    """
    fields = vars(config)
    plain = vars(type(config)())
    for name, value in fields.items():
        if name in SUPPORTED or name in _BOOKKEEPING or name.startswith("_"):
            continue
        if value and value != plain.get(name):
            raise ValueError(f"lora: {name}={value!r:.80} is not supported; leave it out")
    check_values({name: fields[name] for name in SUPPORTED if name in fields})


def check_values(settings: Mapping[str, Any]) -> None:
    """Refuses values out of range.

    Args:
        settings: Fields of `peft.LoraConfig` by name.

    Raises:
        ValueError: Naming the field, its value and the range.
    """
    numbers: dict[str, tuple[str, Any]] = {
        "r": ("a whole number of at least 1", _is_rank),
        "lora_alpha": ("a number above 0", lambda value: _is_number(value) and value > 0),
        "lora_dropout": ("at least 0 and below 1", _is_share),
        "init_lora_weights": (
            f"one of {', '.join(map(repr, INITS))}: others change the base, which is shared",
            lambda value: isinstance(value, (bool, str)) and value in INITS,
        ),
        "bias": (
            "'none': the base's own biases belong to all that share it",
            lambda value: value == "none",
        ),
        "target_modules": ("a text or a list of texts", lambda v: v is None or _is_names(v)),
        "rank_pattern": (
            "a dict from names of layers to whole numbers of at least 1",
            lambda value: isinstance(value, dict) and all(map(_is_rank, value.values())),
        ),
    }
    for name, (range_, fits) in numbers.items():
        if name in settings and not fits(settings[name]):
            raise ValueError(f"lora: {name}={settings[name]!r:.80} must be {range_}")


def adaptable(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The layers of a model that "all-linear" stands for, by name."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, Conv1D)) and layer is not head
    }


def no_match(given: Any, model: PreTrainedModel) -> str:
    """The sentence for target modules that a model has not."""
    kinds = sorted({name.rpartition(".")[2] for name in adaptable(model)})
    return (
        f"lora: target_modules={given!r:.200} match no layer of {type(model).__name__}, whose "
        f"linear layers are called {', '.join(kinds)}; name some of them, or all by 'all-linear'"
    )


def _targets(config: LoraConfig, model: PreTrainedModel) -> dict[str, nn.Module]:
    """The layers that a configuration means, by name; all that it names must be there."""
    given: Any = config.target_modules
    linear = adaptable(model)
    if isinstance(given, str) and given.lower() == "all-linear":
        if not linear:
            raise ValueError(no_match(given, model))
        return linear
    everything = dict(model.named_modules())
    if isinstance(given, str):
        try:
            found = [name for name in everything if re.fullmatch(given, name)]
        except re.error as error:
            raise ValueError(
                f"lora: target_modules={given!r:.200} is no regular expression ({error}); a list "
                "names layers one by one"
            ) from error
        if not found:
            raise ValueError(no_match(given, model))
    else:
        found = []
        for name in given:
            matches = [key for key in everything if key == name or key.endswith(f".{name}")]
            if not matches:
                raise ValueError(no_match(name, model))
            found += matches
    for name in found:
        if name not in linear and not isinstance(everything[name], _others_with_weights()):
            raise ValueError(
                f"lora: target_modules={given!r:.200} match {name!r}, a "
                f"{type(everything[name]).__name__}, which is no linear layer; "
                f"{', '.join(sorted({key.rpartition('.')[2] for key in linear}))} are"
            )
    return {name: everything[name] for name in found}


def _others_with_weights() -> tuple[type, ...]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return (nn.Linear, Conv1D, nn.Embedding)


def task_of(model: PreTrainedModel) -> str:
    """PEFT's word for what a model is for."""
    return "SEQ_CLS" if type(model).__name__.endswith("SequenceClassification") else "CAUSAL_LM"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_names(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    many = isinstance(value, (list, tuple, set))
    return many and bool(value) and all(isinstance(name, str) for name in value)


def _nearest(name: Any, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(names)}"
