"""What a policy refuses when it is made: options out of range, spaces of something else."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch.optim import Optimizer

from llm_gym.files.ranges import check_choice, check_mapping, check_numbers, shown
from llm_gym.language_models.adapters import is_adapter
from llm_gym.language_models.architecture import context_length, vocabulary_size
from llm_gym.language_models.embedded import fetch
from llm_gym.language_models.loading import DTYPES, PRECISIONS

_KEYS = {"input_ids", "attention_mask", "completion_mask"}


def check_options(
    model: str | None,
    temperature: float,
    top_k: int,
    top_p: float,
    value_scale: float,
    mixed_precision: str,
    use_sde: bool,
) -> None:
    """Raises `ValueError` for an option out of range, naming it."""
    if not model:
        raise ValueError(
            f"model={model!r} must be the name or path of a causal language model, e.g. "
            "policy_kwargs=dict(model='llm_gym/email-sft'), a PreTrainedModel or a PeftModel"
        )
    check_numbers(temperature=temperature, top_k=top_k, top_p=top_p, value_scale=value_scale)
    check_choice("mixed_precision", mixed_precision, PRECISIONS)
    if use_sde:
        raise ValueError("use_sde=True needs continuous actions; a token is a discrete one")


def check_loading(
    dtype: str,
    attn_implementation: str | None,
    prefix_cache: bool | str,
    shared_prompts: bool | str,
) -> None:
    """Raises `ValueError` for an option of loading that is none, naming it."""
    check_choice("dtype", dtype, DTYPES)
    if attn_implementation is not None and not isinstance(attn_implementation, str):
        raise ValueError(f"attn_implementation={attn_implementation!r} must be a name or None")
    check_choice("prefix_cache", prefix_cache, ("auto", True, False))
    check_choice("shared_prompts", shared_prompts, ("auto", True, False))


def check_critic(separate_critic: bool, detach_value: bool) -> None:
    """Raises `ValueError` for a switch of the critic that is none, naming it."""
    check_choice("separate_critic", separate_critic, (True, False))
    check_choice("detach_value", detach_value, (True, False))


def check_memory(micro_batch_size: int | None, gradient_checkpointing: bool) -> None:
    """Raises `ValueError` or `TypeError` for an option of memory out of range, naming it."""
    if micro_batch_size is not None:
        check_numbers(micro_batch_size=micro_batch_size)
    check_choice("gradient_checkpointing", gradient_checkpointing, (True, False))


def check_optimizer(optimizer_class: Any, optimizer_kwargs: Any) -> None:
    """Raises `TypeError` for an optimizer that cannot be made, or take a step, as updates do."""
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, Optimizer)):
        raise TypeError(
            f"optimizer_class={shown(optimizer_class)} must be a class of optimizers, such as "
            "torch.optim.AdamW"
        )
    closure = inspect.signature(optimizer_class.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(
            f"optimizer_class={optimizer_class.__name__} computes the loss several times a step, "
            "and an update does once; take another, such as torch.optim.AdamW"
        )
    check_mapping("optimizer_kwargs", optimizer_kwargs)


@contextmanager
def naming_optimizer(optimizer_kwargs: Mapping[str, Any] | None) -> Iterator[None]:
    """Has what an optimizer says of its arguments name them."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"optimizer_kwargs={shown(optimizer_kwargs)}: {error}") from error


def moments_of(optimizer_class: type[torch.optim.Optimizer]) -> int:
    """How many numbers an optimizer keeps for each that it moves, at least."""
    if issubclass(optimizer_class, (torch.optim.Adam, torch.optim.AdamW)):
        return 2
    return 1 if issubclass(optimizer_class, (torch.optim.RMSprop, torch.optim.Adagrad)) else 0


def checkpoint_layers(model: Any) -> None:
    """Has a model's layers computed again in backward passes.

    Raises:
        ValueError: Its architecture cannot, or only with its dropout on.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    # The older name warns in releases that have the newer one.
    newer = getattr(model, "activation_checkpointing_enable", None)
    try:
        (newer or model.gradient_checkpointing_enable)()
    except (ValueError, NotImplementedError) as error:
        raise ValueError(
            f"gradient_checkpointing=True, but {type(model).__name__} cannot compute its layers "
            f"again ({error}); leave it out, or lower micro_batch_size"
        ) from error
    asked = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    if not any(isinstance(module, GradientCheckpointingLayer) for module in asked):
        raise ValueError(
            f"gradient_checkpointing=True, but {type(model).__name__} computes its layers again "
            "only with its dropout on, which a policy never has; leave it out, or lower "
            "micro_batch_size"
        )


def check_spaces(observation_space: spaces.Space, action_space: spaces.Space) -> int:
    """Checks that the spaces are a text environment's, and returns its length `L`."""
    if not isinstance(action_space, spaces.Discrete):
        raise ValueError(f"action_space={action_space} must be Discrete: one token an action")
    if not isinstance(observation_space, spaces.Dict) or not set(observation_space.keys()) >= _KEYS:
        raise ValueError(
            f"observation_space={observation_space} must be a Dict with {sorted(_KEYS)}, as "
            "llm_gym's text environments have it; flattening or normalising wrappers break it"
        )
    ids = observation_space["input_ids"]
    if not isinstance(ids, spaces.Box) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"observation_space['input_ids']={ids} must be an integer Box; token ids cannot be "
            "normalised (VecNormalize) or cast to floats"
        )
    shapes = {key: observation_space[key].shape for key in sorted(_KEYS)}
    if len(ids.shape) != 1 or len(set(shapes.values())) != 1:
        raise ValueError(
            f"observation_space has shapes {shapes}, but each must be (L,): one text, not several "
            "stacked (FrameStackObservation, VecFrameStack)"
        )
    return int(ids.shape[0])


def check_fits(model: Any, capacity: int, n_tokens: int) -> None:
    """Raises `ValueError` unless a model has the environment's tokens and room for its texts."""
    found = vocabulary_size(model)
    if n_tokens > found:
        raise ValueError(
            f"the environment has {n_tokens} actions but the model's vocabulary has {found} "
            f"tokens; if tokens were added to the tokenizer, call "
            f"model.resize_token_embeddings({n_tokens}) and save the model again, else make the "
            "environment with the model's own tokenizer"
        )
    if n_tokens < found:
        raise ValueError(
            f"the environment has {n_tokens} actions but the model's vocabulary has {found} "
            f"tokens; make the environment with the model's own tokenizer and vocab_size={found}"
        )
    context = context_length(model)
    if context is not None and capacity > context:
        raise ValueError(
            f"observations hold up to {capacity} tokens (max_prompt_tokens + max_new_tokens, or "
            f"context_length of conversations) but the model's context is {context}: lower them"
        )


def check_lora(lora: Any, model: str | Path) -> None:
    """Checks what can be said of an adapter's settings before the model is there.

    Raises:
        ValueError: The model is an adapter already, or the adapter would have dropout.
    """
    if is_adapter(fetch(model)):
        raise ValueError(
            f"model={str(model)!r} is a LoRA adapter, which is trained further with the settings "
            "that it has: leave lora out, or merge it into its base first (llm-gym merge)"
        )
    settings = lora if isinstance(lora, Mapping) else vars(lora) if hasattr(lora, "r") else {}
    dropout = settings.get("lora_dropout")
    if dropout:
        raise ValueError(
            f"lora: lora_dropout={dropout!r:.80} must be 0 in a policy: with dropout the ratio of "
            "new to old probabilities is noise before anything was learnt"
        )
