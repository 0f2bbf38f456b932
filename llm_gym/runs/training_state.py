"""What a training run is made of: everything that the next iteration depends on.

`collect` takes an algorithm apart into JSON-able values and tensors, `restore` puts them back.
`llm_gym.runs.checkpoint` stores them.
"""

from __future__ import annotations

import random
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llm_gym.learning.base import AnswerLearner
from llm_gym.runs.digests import digest_of
from llm_gym.runs.shared_base import adapter_state, stored_state

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

Tensors = dict[str, torch.Tensor]


State = tuple[dict[str, Any], Tensors]
"""JSON-able values, and tensors by name."""


def collect(algorithm: OnPolicyAlgorithm, beginning: State | None = None) -> State:
    """Takes the state of an algorithm that is between two iterations.

    Args:
        algorithm: On-policy, its policy with a `generator` (as `TransformerActorCriticPolicy`).
        beginning: What `of_rollout` gave when the rollout began that an algorithm is in; its state
            is then that of that moment.

    Returns:
        JSON-able values, and tensors by name: the algorithm's own memory, on its own device, so
        that tied weights can still be told from equal ones.
    """
    optimizer, tensors = _optimizer_state(algorithm)
    tensors |= {f"policy.{name}": value for name, value in stored_state(algorithm.policy).items()}
    values = {
        "algorithm": type(algorithm).__name__,
        "total_timesteps": algorithm._total_timesteps,
        "n_updates": algorithm._n_updates,
        "optimizer": optimizer,
        "reference_sha256": reference_digest(algorithm),
        "adapter": adapter_state(algorithm.policy),
    }
    in_rollout, in_rollout_tensors = of_rollout(algorithm) if beginning is None else beginning
    tensors |= in_rollout_tensors
    values = {**plain(values), **in_rollout}
    return values, {name: value.detach() for name, value in tensors.items()}


def of_rollout(algorithm: OnPolicyAlgorithm) -> State:
    """The part of `collect` that a rollout changes: all but weights, moments and counts of updates.

    Args:
        algorithm: As of `collect`.
    """
    random_state, tensors = _random_state(algorithm)
    if isinstance(algorithm._last_obs, dict):
        tensors |= {
            f"last_obs.{key}": torch.as_tensor(array) for key, array in algorithm._last_obs.items()
        }
    starts = algorithm._last_episode_starts
    values = {
        "num_timesteps": algorithm.num_timesteps,
        "progress_remaining": algorithm._current_progress_remaining,
        "episode_infos": list(algorithm.ep_info_buffer or []),
        "episode_successes": list(algorithm.ep_success_buffer or []),
        "last_episode_starts": None if starts is None else np.asarray(starts, dtype=bool),
        "random": random_state,
        "environment": _environment_state(algorithm),
        "own": algorithm.get_state() if isinstance(algorithm, AnswerLearner) else {},
    }
    return plain(values), tensors


def restore(algorithm: OnPolicyAlgorithm, values: dict[str, Any], tensors: Tensors) -> None:
    """Puts back what `collect` took, and `llm_gym.runs.misfit` has found to fit.

    Args:
        algorithm: The algorithm.
        values: JSON-able.
        tensors: By name.

    Raises:
        ValueError: An environment of somebody else's does not take its state; nothing of the
            algorithm is changed then.
    """
    _restore_environment(algorithm, values["environment"])
    # What the file lacks is the base below an adapter, which is there; names were compared.
    algorithm.policy.load_state_dict(below(tensors, "policy."), strict=False)
    algorithm.policy.optimizer.load_state_dict(_optimizer_from(values["optimizer"], tensors))
    algorithm.num_timesteps = values["num_timesteps"]
    algorithm._total_timesteps = values["total_timesteps"]
    algorithm._n_updates = values["n_updates"]
    algorithm._current_progress_remaining = values["progress_remaining"]
    window = algorithm._stats_window_size
    algorithm.ep_info_buffer = deque(values["episode_infos"], maxlen=window)
    algorithm.ep_success_buffer = deque(values["episode_successes"], maxlen=window)
    observations = {key: value.numpy() for key, value in below(tensors, "last_obs.").items()}
    if observations and values["environment"] is not None:
        algorithm._last_obs = observations
        algorithm._last_episode_starts = np.array(values["last_episode_starts"], dtype=bool)
    if isinstance(algorithm, AnswerLearner):
        algorithm.set_state(values["own"])
    _restore_random(algorithm, values["random"], tensors)


def environment_attribute(algorithm: OnPolicyAlgorithm, name: str) -> Any:
    """An attribute of the algorithm's text environment; None if it has no such attribute."""
    try:
        return algorithm.env.get_attr(name)[0]  # type: ignore[union-attr]
    except AttributeError:
        return None


# ------------------------------------------------------------------ optimizer


def _optimizer_state(algorithm: OnPolicyAlgorithm) -> tuple[dict[str, Any], Tensors]:
    """Settings and scalars as values, moments as tensors `optimizer.PARAMETER.NAME`."""
    state = algorithm.policy.optimizer.state_dict()
    tensors: Tensors = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, moments in state["state"].items():
        scalars[str(index)] = {}
        for name, value in moments.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                scalars[str(index)][name] = value
    return {"param_groups": state["param_groups"], "scalars": scalars}, tensors


def _optimizer_from(values: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {
        int(index): dict(scalars) for index, scalars in values["scalars"].items()
    }
    for key, value in below(tensors, "optimizer.").items():
        index, _, name = key.partition(".")
        state[int(index)][name] = value
    groups = [
        # JSON has no tuples; Adam's betas are one.
        {key: tuple(v) if key == "betas" else v for key, v in group.items()}
        for group in values["param_groups"]
    ]
    return {"state": state, "param_groups": groups}


# ------------------------------------------------------------------ random states


def _random_state(algorithm: OnPolicyAlgorithm) -> tuple[dict[str, Any], Tensors]:
    """The policy's and the buffer's generators, and the global ones Stable-Baselines3 seeds."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - SB3 uses the global state
    tensors = {
        "random.torch": torch.get_rng_state(),
        "random.policy": algorithm.policy.generator.get_state(),  # type: ignore[union-attr, operator]
        "random.numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
    }
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.stack(torch.cuda.get_rng_state_all())
    buffer_rng = getattr(algorithm.rollout_buffer, "rng", None)
    values = {
        "policy_device": algorithm.policy.generator.device.type,
        "numpy": [name, *rest],
        "python": random.getstate(),
        "buffer": None if buffer_rng is None else buffer_rng.bit_generator.state,
    }
    return values, tensors


def _restore_random(algorithm: OnPolicyAlgorithm, values: dict[str, Any], tensors: Tensors) -> None:
    torch.set_rng_state(tensors["random.torch"])
    if values["policy_device"] in ("cpu", algorithm.device.type):
        # The policy moves its generator to its device at the first sample; a new one has not yet.
        generator = torch.Generator(values["policy_device"])
        generator.set_state(tensors["random.policy"])
        algorithm.policy.generator = generator  # type: ignore[assignment]
    else:
        warnings.warn(
            f"the run was saved on {values['policy_device']} and goes on on {algorithm.device.type}"
            ": its sampling starts from another random state, so it does not continue exactly",
            stacklevel=4,
        )
    name, *rest = values["numpy"]
    keys = tensors["random.numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, keys, *rest))  # noqa: NPY002
    version, python_keys, gauss = values["python"]
    random.setstate((version, tuple(python_keys), gauss))
    if values["buffer"] is not None:
        algorithm.rollout_buffer.rng.bit_generator.state = values["buffer"]  # type: ignore[attr-defined]
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(list(tensors["random.cuda"]))


# ------------------------------------------------------------------ environment, reference


def _environment_state(algorithm: OnPolicyAlgorithm) -> Any:
    try:
        # A wrapper of Stable-Baselines3 passes unknown attributes on to what it wraps.
        return algorithm.env.get_state()  # type: ignore[union-attr]
    except AttributeError:
        return None


def _restore_environment(algorithm: OnPolicyAlgorithm, state: Any) -> None:
    if state is None:
        warnings.warn(
            "the checkpoint holds no state of its environment (only llm_gym's vector environments "
            "can save theirs): prompts start anew, so the run does not continue exactly",
            stacklevel=4,
        )
    else:
        try:
            algorithm.env.set_state(state)  # type: ignore[union-attr]
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"the environment does not take its saved state: {type(error).__name__}: {error}"
            ) from error


def reference_digest(algorithm: OnPolicyAlgorithm) -> str | None:
    """A fingerprint of the frozen KL reference, which a checkpoint does not contain."""
    reference = algorithm.reference if isinstance(algorithm, AnswerLearner) else None
    if reference is None:
        return None
    with reference.reading():
        return weights_digest(reference.model)


def weights_digest(model: torch.nn.Module) -> str:
    """A fingerprint of a model's weights: SHA-256 of their names and bytes."""
    return digest_of(model.state_dict())


def below(tensors: Tensors, prefix: str) -> Tensors:
    """Tensors whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def plain(value: Any) -> Any:
    """The same without numpy types and tuples, so that JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value
