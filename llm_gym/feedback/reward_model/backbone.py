"""A sequence classifier with one output, made from any Hugging Face model, and its head.

A decoder's classifier reads its score at the last token that is not padding, and knows padding by
the pad token's id. So the id must occur nowhere else: a tokenizer whose pad token is missing, or is
the end-of-sequence token that may close a text, gets one of its own.
"""

from __future__ import annotations

import copy
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from llm_gym.language_models import embedded_names, load_tokenizer, resolve
from llm_gym.language_models.adapter_files import base_of, is_adapter
from llm_gym.language_models.adapters import load_adapter
from llm_gym.language_models.classifier_adapters import (
    is_classifier,
    load_classifier,
    widen,
    with_labels,
)
from llm_gym.language_models.loading import (
    check_safetensors,
    only_errors_logged,
    refuse_diverged,
    refuse_oversized,
)
from llm_gym.language_models.memory import check_loading
from llm_gym.supervised.lora import LoraSettings, check_base, put_adapter

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PAD = "<|pad|>"


def load_backbone(
    name_or_path: str | Path,
    *,
    seed: int = 0,
    adapter: LoraSettings | None = None,
    dtype: str = "float32",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a model as a sequence classifier with one output, in evaluation mode.

    A model that is one already (a reward model to train further) keeps its head. Any other gets a
    new one, drawn from N(0, 1 / (d + 1)) for d inputs (Stiennon et al. 2020, arXiv:2009.01325,
    appendix B.1, after Ziegler et al. 2019, arXiv:1909.08593), with bias 0.

    The adapter of a language model becomes that of a classifier, and is trained further with a new
    head; both are saved with it, as PEFT saves them.

    Args:
        name_or_path: Embedded name, directory or hub name; a language model, an encoder or a
            classifier. Code from the hub is never run, and weights are read from safetensors only.
        seed: Seed of whatever weights the checkpoint lacks, and of a new adapter.
        adapter: Freeze the model and train head and a new LoRA adapter, if they ask for one.
        dtype: Type of the weights in memory; the head's are float32 at least.

    Returns:
        The model, on the CPU, and its tokenizer, with a pad token of its own.

    Raises:
        ImportError: For an adapter, PEFT is not installed.
        ValueError: The architecture has no sequence classifier, the checkpoint lacks weights
            below the head, or the model cannot have the adapter or does not fit into memory.
        FileNotFoundError, OSError: It is not there; see `llm_gym.language_models.load_tokenizer`.
    """
    tokenizer = _with_own_pad_token(load_tokenizer(name_or_path))
    source = Path(resolve(name_or_path))
    if adapter is not None:
        check_base(adapter, source)
    if not is_adapter(source):
        lora = adapter is not None and adapter.lora is not None
        model, new = _load(name_or_path, tokenizer, seed, frozen=lora, dtype=dtype)
        if adapter is not None and lora:
            put_adapter(model, adapter, seed=seed, more={"modules_to_save": _modules(model, new)})
    elif is_classifier(source):
        model = load_classifier(source, trainable=True, dtype=dtype)
    else:
        base = base_of(source)
        model, new = _load(base, tokenizer, seed, frozen=True, dtype=dtype)
        model = load_adapter(source, base_model=model, new_modules=_modules(model, new))
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer


def _load(
    name_or_path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    *,
    frozen: bool,
    dtype: str,
) -> tuple[PreTrainedModel, set[str]]:
    """A classifier of a whole model, and the names of parameters that its checkpoint lacks.

    What is to stay frozen gets no random embeddings, which would be lost.
    """
    import torch

    check_safetensors(resolve(name_or_path))
    refuse_oversized(resolve(name_or_path))
    check_loading(resolve(name_or_path), dtype, name_or_path)
    # transformers draws from the global generator, and lists the missing head as if it were news
    with torch.random.fork_rng(devices=[]), only_errors_logged():
        torch.manual_seed(seed)
        try:
            model, new = with_labels(resolve(name_or_path), 1, dtype)
        except Exception as error:  # transformers raises OSError, ValueError, KeyError, ...
            raise ValueError(
                f"model={str(name_or_path)!r} cannot be loaded as a sequence classifier: {error} "
                f"(the embedded models are {', '.join(embedded_names())})"
            ) from error
        lost = sorted(name for name in new if _is_below_the_head(model, name))
        if lost:
            raise ValueError(
                f"model={str(name_or_path)!r} is incomplete: {len(lost)} tensors below the head "
                f"are missing or of another shape, the first is {lost[0]!r}; they would be random"
            )
        head = final_linear(model)
        if any(parameter is head.weight for name, parameter in _named(model, new)):
            torch.nn.init.normal_(head.weight, std=1 / math.sqrt(head.in_features + 1))
            if head.bias is not None:
                torch.nn.init.zeros_(head.bias)
        if frozen:
            widen(model, tokenizer)
        elif len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    refuse_diverged(model, name_or_path)
    return model, new


def _modules(model: PreTrainedModel, new: set[str]) -> list[str]:
    """What is to be saved with an adapter: the head, and what the base lacks below it."""
    paths = {id(module): name for name, module in model.named_modules()}
    names = {paths[id(final_linear(model))].split(".")[0]}
    for name in new:
        names.add(name.removeprefix(f"{model.base_model_prefix}.").split(".")[0])
    return sorted(names)


def final_linear(model: PreTrainedModel) -> torch.nn.Linear:
    """The layer whose one output is the reward: the last linear one outside the trunk.

    Raises:
        ValueError: There is none.
    """
    import torch

    for name, module in reversed(list(model.named_modules())):
        inside = name.startswith(model.base_model_prefix + ".")
        if isinstance(module, torch.nn.Linear) and module.out_features == 1 and not inside:
            return module
    raise ValueError(f"{type(model).__name__} has no linear layer with one output")


def scale_rewards(model: PreTrainedModel, gain: float) -> None:
    """Multiplies all rewards of the model by a number, in place."""
    import torch

    head = final_linear(model)
    with torch.no_grad():
        head.weight.mul_(gain)
        if head.bias is not None:
            head.bias.mul_(gain)


def shift_rewards(
    model: PreTrainedModel, shift: float, rewards_of_probe: Callable[[], torch.Tensor]
) -> bool:
    """Adds a number to all rewards of the model, in place, where its weights can express that.

    It goes into the bias of the head. Heads of decoders have none, but GPT-2's and its relatives'
    read a layer norm that has: there `shift * w / |w|^2` does the same for head weights w. After
    an RMS norm (LLaMA, Qwen) nothing can, nor where the layer norm is of the frozen base of an
    adapter, and the model is left as it was.

    Args:
        model: With one output.
        shift: The number, in units of the reward.
        rewards_of_probe: Returns the model's rewards on a few texts; called before and after.

    Returns:
        Whether the rewards were shifted.
    """
    import torch

    head = final_linear(model)
    with torch.no_grad():
        if head.bias is not None:
            head.bias.add_(shift)
            return True
        shifted = rewards_of_probe() + shift
        for module in reversed(list(model.base_model.modules())):
            bias = module.bias if isinstance(module, torch.nn.LayerNorm) else None
            if bias is None or not bias.requires_grad or bias.shape != head.weight[0].shape:
                continue
            saved = bias.clone()
            bias.add_(shift * head.weight[0] / head.weight.square().sum())
            # Whether this norm is the one that the head reads is seen from the outcome.
            if torch.allclose(rewards_of_probe(), shifted, atol=1e-3 * max(1.0, abs(shift))):
                return True
            bias.copy_(saved)
    return False


def _with_own_pad_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return tokenizer
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_special_tokens({"pad_token": PAD})
    return tokenizer


def _is_below_the_head(model: PreTrainedModel, name: str) -> bool:
    """A pooler belongs to the classifier: language models of the same trunk have none."""
    return name.startswith(model.base_model_prefix + ".") and ".pooler." not in name


def _named(model: PreTrainedModel, names: set[str]) -> list[tuple[str, torch.nn.Parameter]]:
    parameters = []
    for name in names:
        with suppress(AttributeError):  # a buffer, or a name of the checkpoint only
            parameters.append((name, model.get_parameter(name)))
    return parameters
