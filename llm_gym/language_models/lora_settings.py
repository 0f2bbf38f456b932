"""Settings of a LoRA adapter, checked against the model that is to have it."""

from __future__ import annotations

import copy
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.adapter_files import is_trained_whole
from llm_gym.language_models.memory import check_fits

if TYPE_CHECKING:
    import torch
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


def lora_config(
    settings: Mapping[str, Any] | LoraConfig, model: PreTrainedModel, *, moments: int = 0
) -> LoraConfig:
    """Makes the configuration of an adapter for a model.

    Args:
        settings: Fields of `peft.LoraConfig` by name, PEFT's defaults for what is left out, but
            `target_modules="all-linear"`; or such a configuration.
        model: The model that is to have the adapter; it is not changed.
        moments: Numbers that an optimizer will keep for each of the adapter's, to be counted where
            the adapter may be more than memory can hold; two of Adam's.

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
            if name not in SUPPORTED and name in vars(config_class()):
                raise ValueError(f"lora: {name} is not supported; leave it out")
            if name not in SUPPORTED:
                raise ValueError(f"lora has no setting {name!r}{_nearest(name, SUPPORTED)}")
        check_values(settings)
        values = copy.deepcopy(dict(settings))
        if _is_all_linear(values.get("target_modules")):
            del values["target_modules"]  # a text, beside which PEFT chooses no layers
        config = config_class(**values)
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
    if _is_all_linear(config.target_modules) and config.layers_to_transform is not None:
        # PEFT would take all layers: its word for them is a text, too.
        config.target_modules = {name.rpartition(".")[2] for name in targets}
    check_choices(config, model, targets, moments)
    from transformers.pytorch_utils import Conv1D

    config.fan_in_fan_out = any(isinstance(layer, Conv1D) for layer in targets.values())
    config.task_type = task_of(model)
    config.inference_mode = False
    return config


def check_config(config: LoraConfig, advice: str = "") -> None:
    """Refuses what is not supported of a configuration, be it given or read.

    Args:
        config: The configuration.
        advice: What to do where nothing can be left out, because an adapter was trained with it.

    Raises:
        ValueError: Naming the field.
    """
    fields = vars(config)
    try:
        check_values({name: fields[name] for name in SUPPORTED if name in fields})
    except ValueError as error:
        raise ValueError(f"{error}; {advice}" if advice else str(error)) from error
    plain = vars(type(config)())
    for name, value in fields.items():
        if name in SUPPORTED or name in _BOOKKEEPING or name.startswith("_"):
            continue
        if value and value != plain.get(name):
            advice = advice or "leave it out"
            raise ValueError(f"lora: {name}={value!r:.80} is not supported; {advice}")


def check_values(settings: Mapping[str, Any]) -> None:
    """Refuses values out of range.

    Args:
        settings: Fields of `peft.LoraConfig` by name.

    Raises:
        ValueError: Naming the field, its value and the range.
    """
    numbers: dict[str, tuple[str, Any]] = {
        "r": ("a whole number of at least 1", _is_rank),
        "lora_alpha": ("a number above 0", _is_positive),
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
        "exclude_modules": ("a text or a list of texts", lambda v: not v or _is_names(v)),
        "modules_to_save": (
            "a list of names of modules",
            lambda value: not value or (not isinstance(value, str) and _is_names(value)),
        ),
        "layers_to_transform": (
            "a number of a layer, from 0, or a list of some",
            lambda v: v is None or _is_index(v) or (isinstance(v, list) and _are_indices(v)),
        ),
        "layers_pattern": ("a text or a list of texts", lambda v: not v or _is_names(v)),
        "use_dora": ("True or False", lambda value: isinstance(value, bool)),
        "use_rslora": ("True or False", lambda value: isinstance(value, bool)),
        "rank_pattern": (
            "a dict from names of layers to whole numbers of at least 1",
            lambda value: isinstance(value, dict) and all(map(_is_rank, value.values())),
        ),
        "alpha_pattern": (
            "a dict from names of layers to numbers above 0",
            lambda value: isinstance(value, dict) and all(map(_is_positive, value.values())),
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
    if _is_all_linear(given):
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


def check_choices(
    config: LoraConfig, model: PreTrainedModel, targets: Mapping[str, nn.Module], moments: int = 0
) -> None:
    """Refuses names and numbers of layers that a model has not, which PEFT passes over.

    Args:
        config: Of a new adapter.
        model: That is to have it.
        targets: The layers that `target_modules` means.
        moments: Numbers that an optimizer will keep for each of the adapter's.

    Raises:
        ValueError: Naming the field and what matches nothing; or no layer is left, or the adapter
            is more than memory can hold.
    """
    everything = [name for name, _ in model.named_modules()]
    excluded: Any = config.exclude_modules or ()
    if isinstance(excluded, str):
        pattern = _pattern("exclude_modules", excluded)
        _check_all("exclude_modules", [excluded], lambda _: any(map(pattern.fullmatch, everything)))
    else:
        _check_all(
            "exclude_modules",
            excluded,
            lambda name: any(f".{key}".endswith(f".{name}") for key in everything),
        )
    saved = config.modules_to_save or ()
    _check_all("modules_to_save", saved, lambda name: any(k.endswith(name) for k in everything))
    for field in ("rank_pattern", "alpha_pattern"):
        for name in getattr(config, field):
            _pattern(field, name)
            pattern = re.compile(rf"(.*\.)?({name})$")  # as PEFT reads it
            if not any(map(pattern.match, targets)):
                raise _nothing(field, name)
    layers: Any = config.layers_to_transform
    for layer in [layers] if isinstance(layers, int) else layers or ():
        one = copy.copy(config)
        one.layers_to_transform = [layer]
        if not _adapted(one, targets):
            raise _nothing("layers_to_transform", layer)
    adapted = _adapted(config, targets)
    if not adapted:
        raise ValueError(
            "lora: no layer is left to adapt: exclude_modules, modules_to_save and "
            f"layers_to_transform take away all of target_modules={config.target_modules!r:.200}"
        )
    numbers = sum(config.r * sum(_weight_of(targets[name]).shape) for name in adapted)
    whole = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if is_trained_whole(name, saved)
    )
    needs = {
        "its weights": 4 * numbers,
        "whole modules beside it": 4 * whole,
        "gradients": 4 * (numbers + whole),
        "the optimizer's moments": 4 * moments * (numbers + whole),
    }
    needs = {name: count for name, count in needs.items() if count}
    advice = "lower r, or leave out modules_to_save" if whole else "lower r"
    check_fits(needs, "cpu", f"lora: r={config.r}: an adapter of this rank", advice)


def _adapted(config: LoraConfig, targets: Mapping[str, nn.Module]) -> list[str]:
    """The layers that PEFT would put an adapter on."""
    from peft.tuners.tuners_utils import check_target_module_exists

    if _is_all_linear(config.target_modules):
        config = copy.copy(config)
        config.target_modules = set(targets)
    return [name for name in targets if check_target_module_exists(config, name)]


def _check_all(field: str, given: Iterable[Any], is_there: Callable[[Any], bool]) -> None:
    for each in given:
        if not is_there(each):
            raise _nothing(field, each)


def _nothing(field: str, given: Any) -> ValueError:
    return ValueError(f"lora: {field}: {given!r:.80} matches nothing of the model; leave it out")


def _weight_of(layer: nn.Module) -> torch.Tensor:
    weight: Any = layer.weight
    return weight


def _pattern(field: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(
            f"lora: {field}={text!r:.80} is no regular expression ({error})"
        ) from error


def _others_with_weights() -> tuple[type, ...]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return (nn.Linear, Conv1D, nn.Embedding)


def task_of(model: PreTrainedModel) -> str:
    """PEFT's word for what a model is for."""
    return "SEQ_CLS" if type(model).__name__.endswith("SequenceClassification") else "CAUSAL_LM"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_indices(values: list[Any]) -> bool:
    return bool(values) and all(map(_is_index, values))


def _is_all_linear(value: Any) -> bool:
    return isinstance(value, str) and value.lower() == "all-linear"


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
