"""A Gymnasium vector environment as a Stable-Baselines3 `VecEnv`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from llm_gym.files.schema import anything, list_of, number, record, whole

_LARGEST = float(np.finfo(np.float32).max)
_FINAL_KEYS = ("final_obs", "final_info")


class _NoInfo(dict[str, Any]):
    """The empty info of a row that has nothing to say; every step's, so it must stay empty."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("this info is shared by steps that have none: copy it to add keys")

    __setitem__ = __ior__ = setdefault = update = _refuse


class GymVecEnv(VecEnv):
    """Lets Stable-Baselines3 train on a Gymnasium vector environment.

    Unlike `DummyVecEnv`, it does no work per row, unless an episode ends in the row or the
    environment itself gives it an info. It adds what `Monitor` adds, so `ep_info_buffer` and
    `evaluate_policy` work without a wrapper.

    Infos of rows whose episode ended: the episode's last info, `terminal_observation`,
    `TimeLimit.truncated` and `episode` (return "r", length "l", seconds since the start "t").
    Infos of other rows: what the environment gave them, mostly an empty dict, which steps share.

    Args:
        env: Vector environment that resets rows in the same step.

    Raises:
        TypeError: `env` is not a Gymnasium vector environment.
        ValueError: It resets rows in another way.
    """

    def __init__(self, env: VectorEnv) -> None:
        if not isinstance(env, VectorEnv):
            raise TypeError(
                f"env must be a gymnasium.vector.VectorEnv, got {type(env).__name__}; make "
                "one with gymnasium.make_vec(id, num_envs, autoreset_mode='SameStep')"
            )
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"env has autoreset_mode={mode}, but Stable-Baselines3 needs rows to be reset in "
                "the step that ends them: make it with autoreset_mode='SameStep' (for "
                "SyncVectorEnv: vector_kwargs={'autoreset_mode': 'SameStep'})"
            )
        self.env = env
        self._returns = np.zeros(env.num_envs)  # of the running episodes
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self._started = time.time()
        self._actions = np.zeros(0)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._no_infos: list[dict[str, Any]] = [_NoInfo() for _ in range(env.num_envs)]

    def reset(self) -> VecEnvObs:
        """Resets all rows, with the seeds and options that were set before.

        Returns:
            Observations, as the vector environment gives them.

        Raises:
            ValueError: `set_options` was given options that differ between rows.
        """
        # Seeds were made by `seed`, which counts up from the first: the environment does the same.
        observations, infos = self.env.reset(seed=self._seeds[0], options=self._shared_options())
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self.reset_infos = [row_info(infos, row) for row in range(self.num_envs)]
        return observations

    def _shared_options(self) -> dict[str, Any] | None:
        first = self._options[0]
        if any(options is not first and (options or first) for options in self._options):
            raise ValueError(
                "set_options: a vector environment takes one dict for all rows; values that differ "
                "between rows go into it as sequences"
            )
        return first or None

    def step_async(self, actions: np.ndarray) -> None:
        """Keeps the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all rows.

        Returns:
            Observations, rewards float32 `(N,)`, dones bool `(N,)` and N infos.

        Raises:
            ValueError: A reward is no finite float32.
        """
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        paid = _as_float32(rewards)
        dones = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        row_infos = self._row_infos(infos, dones) if infos else list(self._no_infos)
        if dones.any():
            for row in np.flatnonzero(dones).tolist():
                row_infos[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
                row_infos[row]["episode"] = self._episode(row)
            self._returns[dones] = 0.0
            self._lengths[dones] = 0
        return observations, paid, dones, row_infos

    def _row_infos(self, infos: Mapping[str, Any], dones: np.ndarray) -> list[dict[str, Any]]:
        """Infos by row; those of a new episode go to `reset_infos`, as in `DummyVecEnv`."""
        row_infos = list(self._no_infos)
        for row in np.flatnonzero(dones).tolist():
            info = row_info(infos, row)
            observation, final = (info.pop(key, None) for key in _FINAL_KEYS)
            row_infos[row] = {**(final or {}), "terminal_observation": observation}
            self.reset_infos[row] = info
        for row in np.flatnonzero(_has_info(infos, self.num_envs) & ~dones).tolist():
            row_infos[row] = row_info(infos, row)
        return row_infos

    def _episode(self, row: int) -> dict[str, Any]:
        return {
            "r": round(float(self._returns[row]), 6),
            "l": int(self._lengths[row]),
            "t": round(time.time() - self._started, 6),
        }

    def close(self) -> None:
        """Closes the vector environment."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One image a row, if the environment renders images."""
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the environment, once for each row asked for.

        Args:
            attr_name: Name; spaces are those of a single row.
            indices: Rows; None for all.

        Returns:
            The row's own value where the environment keeps one a row (`get_attr`), else the shared
            one.

        Raises:
            AttributeError: There is no such attribute.
        """
        rows = list(self._get_indices(indices))
        if attr_name in ("observation_space", "action_space"):
            return [getattr(self, attr_name)] * len(rows)
        unwrapped: Any = self.env.unwrapped
        if hasattr(unwrapped, "get_attr"):
            values = unwrapped.get_attr(attr_name)
            return [values[row] for row in rows]
        return [_attribute(self.env, attr_name)] * len(rows)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the environment.

        Args:
            attr_name: Name of the attribute.
            value: Value, for all rows.
            indices: Must be all rows unless the environment keeps one value a row.

        Raises:
            ValueError: Only some rows were named, but the rows share the attribute.
        """
        everyone = range(self.num_envs)
        others = set(everyone).difference(everyone[row] for row in self._get_indices(indices))
        unwrapped: Any = self.env.unwrapped
        if hasattr(unwrapped, "set_attr") and hasattr(unwrapped, "get_attr"):
            values = [value] * self.num_envs
            if others:  # those of all rows need not have the attribute yet
                now = unwrapped.get_attr(attr_name)
                values = [now[row] if row in others else value for row in everyone]
            unwrapped.set_attr(attr_name, values)
            return
        if others:
            raise ValueError(
                f"set_attr({attr_name!r}): the rows of {self.env} share their attributes; set it "
                "for all rows (indices=None)"
            )
        setattr(unwrapped, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Calls a method of the environment.

        Args:
            method_name: Name; it is called once, or once a row where the environment can `call`.
            *method_args: arguments.
            indices: Rows whose results are returned; None for all.
            **method_kwargs: Keyword arguments.

        Returns:
            A result for each row asked for: its entry of an array or tuple of length N, such as
            that of `action_masks()`, or else the same result for each.

        Raises:
            AttributeError: There is no such method.
        """
        rows = list(self._get_indices(indices))
        unwrapped: Any = self.env.unwrapped
        if hasattr(unwrapped, "call"):
            results = unwrapped.call(method_name, *method_args, **method_kwargs)
        else:
            results = _attribute(self.env, method_name)(*method_args, **method_kwargs)
        if isinstance(results, (tuple, np.ndarray)) and len(results) == self.num_envs:
            return [results[row] for row in rows]
        return [results] * len(rows)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether rows are wrapped; true for `Monitor`, whose work is done here."""
        rows = list(self._get_indices(indices))
        return [issubclass(wrapper_class, Monitor)] * len(rows)

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue exactly, for a vector environment that has `get_state`.

        Returns:
            State for `set_state`: that of the environment, and the running episodes' returns and
            lengths.
        """
        return {
            "env": _attribute(self.env, "get_state")(),
            "returns": self._returns.tolist(),
            "lengths": self._lengths.tolist(),
        }

    def set_state(self, state: Mapping[str, Any]) -> VecEnvObs:
        """Continues from a state of `get_state`.

        Args:
            state: The state.

        Returns:
            The observations at that moment.

        Raises:
            ValueError: The state does not fit.
        """
        self.check_state("the state", state)
        observations = _attribute(self.env, "set_state")(state["env"])
        self._reset_seeds()  # the state has its own generators: a later reset must not reseed them
        self._returns[:] = state["returns"]
        self._lengths[:] = state["lengths"]
        return observations

    def check_state(self, name: str, state: Any) -> None:
        """Raises `ValueError` unless `set_state` can continue from a state.

        An environment that cannot check its own state has it checked by `set_state` alone.

        Args:
            name: Of the state, for messages.
            state: The state.
        """
        try:
            of_env = _attribute(self.env, "check_state")
        except AttributeError:
            of_env = anything
        lengths = list_of(whole(), self.num_envs)
        returns = list_of(number(), self.num_envs)
        record({"env": of_env, "returns": returns, "lengths": lengths})(name, state)


def _as_float32(rewards: Any) -> np.ndarray:
    rewards = np.asarray(rewards)
    if rewards.any() and not (np.abs(rewards) <= _LARGEST).all():  # most steps pay nothing
        row = int((~(np.abs(rewards) <= _LARGEST)).argmax())
        raise ValueError(
            f"env pays the reward {rewards[row]:g} in row {row}, but rewards must be finite "
            "float32: scale them, or mend the environment"
        )
    return rewards.astype(np.float32)


def row_info(infos: Mapping[str, Any], row: int) -> dict[str, Any]:
    """The info of one row of a Gymnasium vector environment.

    Args:
        infos: Infos as vector environments give them: a dict of arrays of length N, with a bool
            array `_key` that says which rows have the key.
        row: The row.

    Returns:
        The row's own dict.
    """
    info: dict[str, Any] = {}
    for key in _keys(infos):
        if infos[f"_{key}"][row]:
            value = infos[key]
            info[key] = row_info(value, row) if isinstance(value, dict) else _plain(value[row])
    return info


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _keys(infos: Mapping[str, Any]) -> Iterable[str]:
    return (key for key in infos if f"_{key}" in infos)


def _has_info(infos: Mapping[str, Any], num_rows: int) -> np.ndarray:
    has = np.zeros(num_rows, dtype=bool)
    for key in _keys(infos):
        has |= infos[f"_{key}"]
    return has


def _attribute(env: VectorEnv, name: str) -> Any:
    """An attribute of the environment or of the outermost wrapper that has it."""
    layer: Any = env
    while not hasattr(layer, name) and hasattr(layer, "env"):
        layer = layer.env
    return getattr(layer, name)
