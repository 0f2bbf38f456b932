"""What a run of a stock algorithm is made of: PPO, SAC, DQN and their kind, on any vector env.

`collect` takes all that the next step depends on, as a tree of plain values and arrays; `restore`
puts it back, and the run goes on bit for bit. The environment must be able to save its state.
`take_apart` and `put_together` divide such a tree into JSON and named arrays.

`llm_gym.runs.training_state` does the same for language models.
"""

from __future__ import annotations

import random
from collections import deque
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

Arrays = dict[str, np.ndarray]

_COUNTERS = (
    "num_timesteps", "_total_timesteps", "_n_updates", "_n_calls", "_episode_num",
    "_current_progress_remaining", "exploration_rate",
)  # fmt: skip
_REPLAYED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_ARRAY = "an array of the file"


def collect(algorithm: BaseAlgorithm) -> dict[str, Any]:
    """Takes the state of an algorithm between two rollouts.

    Args:
        algorithm: On-policy or off-policy, on an environment with `get_state`.

    Returns:
        A tree of dicts, lists, plain values, tensors and arrays.

    Raises:
        ValueError: The algorithm keeps something that would not come back.
    """
    check_can_be_saved(algorithm)
    modules, variables = algorithm._get_torch_save_params()
    replay = getattr(algorithm, "replay_buffer", None)
    return {
        "algorithm": type(algorithm).__name__,
        "counters": {name: getattr(algorithm, name) for name in _counters_of(algorithm)},
        "episodes": list(algorithm.ep_info_buffer or []),
        "successes": list(algorithm.ep_success_buffer or []),
        "last_obs": algorithm._last_obs,
        "last_episode_starts": algorithm._last_episode_starts,
        "environment": algorithm.env.get_state(),  # type: ignore[union-attr]
        "modules": {name: _part(algorithm, name).state_dict() for name in modules},
        "variables": {name: _part(algorithm, name) for name in variables},
        "replay": None if replay is None else _replay(replay),
        "random": {
            "torch": torch.get_rng_state(),
            "numpy": list(np.random.get_state()),  # noqa: NPY002 - Stable-Baselines3 uses it
            "python": random.getstate(),
            "actions": algorithm.action_space.np_random.bit_generator.state,
        },
    }


def check_can_be_saved(algorithm: BaseAlgorithm) -> None:
    """Refuses what `collect` would leave out.

    Raises:
        ValueError: There is something, by name.
    """
    replay = getattr(algorithm, "replay_buffer", None)
    kept: dict[str, Any] = {
        "VecNormalize": algorithm.get_vec_normalize_env(),
        "action_noise": getattr(algorithm, "action_noise", None),
        "use_sde": algorithm.use_sde,
        "a device other than the CPU": algorithm.device.type != "cpu",
        f"a {type(replay).__name__}": replay is not None
        and (type(replay) is not ReplayBuffer or replay.optimize_memory_usage),
    }
    unknown = [name for name, value in kept.items() if value]
    if unknown:
        raise ValueError(f"a run with {' and '.join(unknown)} cannot be saved to be resumed")
    if not hasattr(algorithm.env, "get_state"):
        raise ValueError("the environment has no get_state: the run cannot be saved to be resumed")


def misfit(algorithm: BaseAlgorithm, state: dict[str, Any]) -> str | None:
    """Says why a state cannot be put into this algorithm; None if it can.

    Args:
        algorithm: Made anew, with the same settings.
        state: From `collect`; its parts may be wrong, its shape may not.
    """
    kind = type(algorithm).__name__
    if state["algorithm"] != kind:
        return f"it was saved by {state['algorithm']}, not {kind}"
    modules, variables = algorithm._get_torch_save_params()
    for name in modules:
        part, saved = _part(algorithm, name), state["modules"][name]
        wanted = part.state_dict()
        if isinstance(part, torch.optim.Optimizer):
            parameters = [p for group in part.param_groups for p in group["params"]]
            wrong = [
                f"{name} {index} {key}"
                for index, moments in saved["state"].items()
                for key, moment in moments.items()
                if np.shape(moment) not in (tuple(parameters[index].shape), ())
            ]
        else:
            wrong = [
                f"{name} {key}"
                for key in sorted(wanted.keys() | saved.keys())
                if np.shape(wanted.get(key)) != np.shape(saved.get(key))
            ]
        if wrong:
            return f"its {wrong[0]} has another shape; was the run begun with other settings?"
    for name in variables:
        if np.shape(state["variables"][name]) != tuple(_part(algorithm, name).shape):
            return f"its {name} has another shape; was the run begun with other settings?"
    replay = getattr(algorithm, "replay_buffer", None)
    for key, rows in (state["replay"] or {"arrays": {}})["arrays"].items():
        there = getattr(replay, key)
        if rows.shape[1:] != there.shape[1:] or len(rows) > len(there):
            return f"its replay buffer's {key} do not fit; was the run begun with other settings?"
    if np.shape(state["last_obs"])[:1] != (algorithm.n_envs,):
        return f"it was not saved with {algorithm.n_envs} environments"
    return None


def restore(algorithm: BaseAlgorithm, state: dict[str, Any]) -> None:
    """Puts back what `collect` took; `misfit` must have found nothing."""
    algorithm.env.set_state(state["environment"])  # type: ignore[union-attr]
    for name, value in state["counters"].items():
        setattr(algorithm, name, value)
    window = algorithm._stats_window_size
    algorithm.ep_info_buffer = deque(state["episodes"], maxlen=window)
    algorithm.ep_success_buffer = deque(state["successes"], maxlen=window)
    algorithm._last_obs = state["last_obs"]
    algorithm._last_episode_starts = state["last_episode_starts"]
    for name, saved in state["modules"].items():
        _part(algorithm, name).load_state_dict(_as_tensors(saved))
    for name, saved in state["variables"].items():
        # In place: an optimizer holds the same tensor.
        _part(algorithm, name).data.copy_(torch.from_numpy(saved))
    if state["replay"] is not None:
        replay: Any = algorithm.replay_buffer  # type: ignore[attr-defined]
        replay.pos, replay.full = state["replay"]["pos"], state["replay"]["full"]
        for key, rows in state["replay"]["arrays"].items():
            getattr(replay, key)[: len(rows)] = rows
    _restore_random(algorithm, state["random"])


def _restore_random(algorithm: BaseAlgorithm, state: dict[str, Any]) -> None:
    torch.set_rng_state(torch.from_numpy(state["torch"]))
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    algorithm.action_space.np_random.bit_generator.state = state["actions"]


def _counters_of(algorithm: BaseAlgorithm) -> list[str]:
    return [name for name in _COUNTERS if hasattr(algorithm, name)]


def _part(algorithm: BaseAlgorithm, name: str) -> Any:
    return attrgetter(name)(algorithm)


def _replay(replay: ReplayBuffer | DictReplayBuffer) -> dict[str, Any]:
    """Only what has been filled: the rest is zeros."""
    filled = replay.buffer_size if replay.full else replay.pos
    arrays = {name: getattr(replay, name)[:filled] for name in _REPLAYED}
    return {"pos": replay.pos, "full": replay.full, "arrays": arrays}


def _as_tensors(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _as_tensors(value) for key, value in tree.items()}
    return torch.from_numpy(tree) if isinstance(tree, np.ndarray) else tree


# ------------------------------------------------------------------ trees as JSON and arrays


def take_apart(tree: Any, arrays: Arrays, name: str = "") -> Any:
    """The JSON-able part of a tree; its tensors and arrays go into `arrays`.

    Args:
        tree: Dicts, lists, tuples, plain values, tensors and arrays. Tuples become lists.
        arrays: Gets the arrays by their place in the tree.
        name: Of that place.
    """
    if isinstance(tree, dict):
        parts = [[key, take_apart(tree[key], arrays, f"{name}.{key}".strip("."))] for key in tree]
        # JSON has only words for keys, and optimizers count.
        return dict(parts) if all(isinstance(key, str) for key in tree) else {"": parts}
    if isinstance(tree, (list, tuple)):
        return [take_apart(each, arrays, f"{name}.{i}") for i, each in enumerate(tree)]
    if isinstance(tree, torch.Tensor):
        tree = tree.detach().cpu().numpy()
    if isinstance(tree, np.ndarray):
        arrays[name] = np.array(tree, order="C")  # a copy of its own memory
        return {_ARRAY: name}
    return tree.item() if isinstance(tree, np.generic) else tree


def put_together(tree: Any, arrays: Arrays) -> Any:
    """The tree again, arrays in place of tensors.

    Args:
        tree: From `take_apart`.
        arrays: From there, too.

    Raises:
        KeyError: An array is missing.
    """
    if isinstance(tree, list):
        return [put_together(each, arrays) for each in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {_ARRAY}:
        return arrays[tree[_ARRAY]]
    parts = tree[""] if tree.keys() == {""} else tree.items()
    return {key: put_together(value, arrays) for key, value in parts}
