"""What an algorithm of Stable-Baselines3 is told when it is made with a transformer policy.

A policy sees spaces only, and some wrappers change observations without changing their space. So
the environment is looked at as well, before the first rollout fails in the middle or, worse, goes
on.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from llm_gym.files.ranges import check_mapping, shown
from llm_gym.language_models.generation import unheard_end_ids
from llm_gym.language_models.memory import check_training
from llm_gym.language_models.model_objects import named
from llm_gym.language_models.trained_types import is_coarse, refuse_training, say_coarse
from llm_gym.policy.options import check_optimizer, moments_of
from llm_gym.policy.variants import MaskableTransformerPolicy

_KNOWN = ("llm_gym.", "stable_baselines3.", "sb3_contrib.")  # which train all of a policy
THEIR_BUFFERS = ("stable_baselines3.", "sb3_contrib.")  # which keep transitions


def check_setup(algorithm: BaseAlgorithm) -> None:
    """Checks that environment, wrappers, buffer and optimizer go with a transformer policy.

    Args:
        algorithm: An algorithm whose `policy_class` is a `TransformerActorCriticPolicy`; its
            environment may be missing, as `load` may do without.

    Raises:
        TypeError: Arguments of the policy or of the buffer are none, or the optimizer is none.
        ValueError: Observations are normalised or stacked, actions are masked and the policy does
            not heed masks, or the model cannot be trained: its weights are float16, or they do not
            fit into memory with their gradients, the optimizer's moments and the reference.
    """
    _check_kinds(algorithm)
    _name_model(algorithm)
    _check_training(algorithm)
    _say_optimizer(algorithm)
    _say_buffer(algorithm)
    if algorithm.env is not None:
        for wrapper in _wrappers(algorithm.env):
            _check_wrapper(wrapper)
        _check_masks(algorithm.policy_class, algorithm.env)
        _say_unheard_ends(algorithm.policy_kwargs.get("model"), algorithm.env)


def _check_kinds(algorithm: BaseAlgorithm) -> None:
    for name in ("policy_kwargs", "rollout_buffer_kwargs"):
        check_mapping(name, getattr(algorithm, name, None))
    buffer = getattr(algorithm, "rollout_buffer_class", None)
    if buffer is not None and not isinstance(buffer, type):
        raise TypeError(
            f"rollout_buffer_class={shown(buffer)} must be a class, such as llm_gym.EpisodeBuffer"
        )
    kwargs: Mapping[str, Any] = algorithm.policy_kwargs
    optimizer = kwargs.get("optimizer_class", torch.optim.AdamW)
    check_optimizer(optimizer, kwargs.get("optimizer_kwargs"))


def _name_model(algorithm: BaseAlgorithm) -> None:
    """Has the algorithm know an object of PEFT's by its name: its arguments are saved with it."""
    kwargs: dict[str, Any] = algorithm.policy_kwargs
    if "model" in kwargs:
        algorithm.policy_kwargs = {**kwargs, "model": named(kwargs["model"])}


def _check_training(algorithm: BaseAlgorithm) -> None:
    """Refuses what is certain to fail in the first update, before the model is loaded.

    One that is read from a file may be there to answer only.
    """
    kwargs: dict[str, Any] = algorithm.policy_kwargs
    model, dtype = kwargs.get("model"), str(kwargs.get("dtype", "float32"))
    is_new = getattr(algorithm, "policy", None) is None and not algorithm.num_timesteps
    if not (is_new and model and isinstance(model, (str, Path))):
        return
    refuse_training(model, dtype)
    is_frozen = kwargs.get("lora") is not None
    if not is_frozen and is_coarse(model, dtype):
        say_coarse()
    if not all(
        each.__module__.startswith(_KNOWN) for each in (type(algorithm), algorithm.policy_class)
    ):
        return  # somebody else's may freeze a part of the model
    optimizer = kwargs.get("optimizer_class", torch.optim.AdamW)
    check_training(
        model,
        dtype=dtype,
        device=str(algorithm.device),
        frozen=is_frozen,
        # TRPO's optimizer moves the critic alone.
        moments=0 if type(algorithm).__name__ == "TRPO" else moments_of(optimizer),
        models=2 if kwargs.get("separate_critic") else 1,
        copies=getattr(algorithm, "reference_copies", 0.0),
    )


def _say_buffer(algorithm: BaseAlgorithm) -> None:
    if not isinstance(algorithm, OnPolicyAlgorithm):
        return
    buffer = algorithm.rollout_buffer_class
    if buffer is not None and not buffer.__module__.startswith(THEIR_BUFFERS):
        return
    better = "llm_gym.EpisodeBuffer"
    if issubclass(algorithm.policy_class, MaskableTransformerPolicy):
        better = "llm_gym.learning.buffer.MaskableEpisodeBuffer"
    warnings.warn(
        f"rollout_buffer_class={None if buffer is None else buffer.__name__}: with it an update "
        "reads the whole text before each token anew, which is several times slower; pass "
        f"rollout_buffer_class={better}, which learns the same",
        stacklevel=2,
    )


def class_named(parameter: str, name: str) -> Any:
    """A class by its place, as a YAML file can say it.

    Args:
        parameter: What it is for, for the error.
        name: `"package.Class"`.

    Returns:
        The class.

    Raises:
        ValueError: There is none.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{parameter}={name!r} is no class: pass one, or its place, such as "
            f"'llm_gym.EpisodeBuffer' ({error})"
        ) from error


def _wrappers(env: VecEnv) -> Iterator[VecEnvWrapper]:
    while isinstance(env, VecEnvWrapper):
        yield env
        env = env.venv


def _check_wrapper(wrapper: VecEnvWrapper) -> None:
    name = type(wrapper).__name__
    if isinstance(wrapper, VecNormalize) and wrapper.norm_obs:
        raise ValueError(
            f"env is wrapped in {name}(norm_obs=True): token ids and masks cannot be normalised, "
            "they are names and not amounts; pass norm_obs=False (rewards may be normalised)"
        )
    inner, outer = _id_space(wrapper.venv), _id_space(wrapper)
    if inner is not None and (outer is None or outer.shape != inner.shape):
        raise ValueError(
            f"env is wrapped in {name}, which makes observations of shape "
            f"{None if outer is None else outer.shape} out of {inner.shape}: the policy would read "
            "glued or missing pieces as one text; leave the wrapper out, an observation has the "
            "whole text already"
        )


def _id_space(env: VecEnv) -> spaces.Space | None:
    space = env.observation_space
    return space.spaces.get("input_ids") if isinstance(space, spaces.Dict) else None


def _check_masks(policy_class: type, env: VecEnv) -> None:
    if issubclass(policy_class, MaskableTransformerPolicy):
        return
    if env.has_attr("masks_actions") and any(env.get_attr("masks_actions")):
        raise ValueError(
            "env masks actions (min_new_tokens, forbidden_token_ids or allowed_token_ids), which "
            f"{policy_class.__name__} does not heed: it would choose a masked token sooner or "
            "later. Use sb3_contrib.MaskablePPO with llm_gym.policy.MaskableTransformerPolicy and "
            "rollout_buffer_class=llm_gym.learning.buffer.MaskableEpisodeBuffer, or make the "
            "environment without the option"
        )


def _say_unheard_ends(model: Any, env: VecEnv) -> None:
    if not isinstance(model, (str, Path)) or not env.has_attr("ends_by_default"):
        return  # a model object has a sentence of the policy's
    if not all(env.get_attr("ends_by_default")):
        return
    heard = list(env.get_attr("eos_token_ids")[0])
    unheard = unheard_end_ids(model, heard, int(env.action_space.n))  # type: ignore[attr-defined]
    if unheard:
        warnings.warn(
            f"the generation config of model={str(model)!r} ends answers at {unheard}, too, of "
            "which the environment's tokenizer does not know: answers would go on behind them. "
            f"Make the environment with eos_token_id={heard + unheard} (or with {heard}, if that "
            "is meant)",
            stacklevel=2,
        )


def _say_optimizer(algorithm: BaseAlgorithm) -> None:
    kwargs: dict[str, Any] = algorithm.policy_kwargs
    # What A2C writes there by itself, into the caller's own dict; who asks for RMSprop gets it
    # without a word.
    written = set(kwargs.get("optimizer_kwargs") or ()) == {"alpha", "eps", "weight_decay"}
    if written and kwargs.get("optimizer_class") is torch.optim.RMSprop:
        warnings.warn(
            "A2C's use_rms_prop=True, its default, has replaced the policy's AdamW by RMSprop (in "
            "policy_kwargs, which other algorithms may share): pass use_rms_prop=False to keep "
            "AdamW, for which llm_gym's learning rates are",
            stacklevel=2,
        )
