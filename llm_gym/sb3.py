"""What Stable-Baselines3 understands once `llm_gym` is imported, where it would raise an error.

- `PPO("TransformerPolicy", ...)` and A2C: the name of `llm_gym.TransformerActorCriticPolicy`.
- `rollout_buffer_class="llm_gym.EpisodeBuffer"`: a class by its name, as YAML files can say it.
- An environment, a wrapper or an optimizer that does not go with that policy is refused, or said,
  when the algorithm is made (`llm_gym.policy.setup`).
- A Gymnasium vector environment where a `VecEnv` is needed: the error says `GymVecEnv(env)`.

Nothing is imported for it: it waits until Stable-Baselines3 is. Loops and losses are untouched, and
so is every call that worked before.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGE = "stable_baselines3"
_POLICY_NAME = "TransformerPolicy"
# Modules that turn what they are given into a Gymnasium environment.
_PATCHERS = ("common.base_class", "common.env_util", "common.vec_env.dummy_vec_env")


def extend() -> None:
    """Teaches Stable-Baselines3 now, if it has been imported, or else as soon as it is."""
    if _PACKAGE in sys.modules:
        _teach()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


class _Waiting(MetaPathFinder):
    """Finds Stable-Baselines3 as everybody else does, and teaches it when it has been loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _PACKAGE:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (f.find_spec(name, path, target) for f in others if hasattr(f, "find_spec"))
        spec = next(filter(None, specs), None)
        loader: Any = None if spec is None else spec.loader
        if loader is not None:
            load = loader.exec_module

            def load_and_teach(module: ModuleType) -> None:
                load(module)
                _teach()

            loader.exec_module = load_and_teach
        return spec


def _teach() -> None:
    for module, algorithm in (("ppo", "PPO"), ("a2c", "A2C")):
        algorithm_class = getattr(import_module(f"{_PACKAGE}.{module}"), algorithm)
        if not isinstance(algorithm_class.policy_aliases, _Aliases):
            algorithm_class.policy_aliases = _Aliases(algorithm_class.policy_aliases)
    base = import_module(f"{_PACKAGE}.common.base_class").BaseAlgorithm
    base._setup_lr_schedule = _once(base._setup_lr_schedule, _before_set_up)
    for name in _PATCHERS:
        patcher: Any = import_module(f"{_PACKAGE}.{name}")
        patcher._patch_env = _once(patcher._patch_env, _refuse_vector_env)


def _once(function: Callable[..., Any], first: Callable[[Any], None]) -> Callable[..., Any]:
    """The function, with `first` called on its first argument before it; never twice."""
    if getattr(function, "__llm_gym__", False):
        return function

    @functools.wraps(function)
    def both(*args: Any, **kwargs: Any) -> Any:
        if args:
            first(args[0])
        return function(*args, **kwargs)

    both.__llm_gym__ = True  # type: ignore[attr-defined]
    return both


class _Aliases(dict[str, Any]):
    """An algorithm's names of policies, and ours, which is imported when it is asked for."""

    def __contains__(self, name: object) -> bool:
        return name == _POLICY_NAME or super().__contains__(name)

    def __missing__(self, name: str) -> Any:
        if name != _POLICY_NAME:
            raise KeyError(name)
        return import_module("llm_gym.policy").TransformerActorCriticPolicy


def _before_set_up(algorithm: Any) -> None:
    """What every algorithm is told before it makes its buffer and its policy."""
    buffer = getattr(algorithm, "rollout_buffer_class", None)
    if isinstance(buffer, str):
        named = import_module("llm_gym.policy.setup").class_named
        algorithm.rollout_buffer_class = named("rollout_buffer_class", buffer)
    policy = sys.modules.get("llm_gym.policy")  # imported, if the algorithm's is one of ours
    if policy is not None and issubclass(
        algorithm.policy_class, policy.TransformerActorCriticPolicy
    ):
        import_module("llm_gym.policy.setup").check_setup(algorithm)


def _refuse_vector_env(env: Any) -> None:
    vector = sys.modules.get("gymnasium.vector")
    if vector is not None and isinstance(env, vector.VectorEnv):
        raise ValueError(
            f"env={type(env).__name__} is a Gymnasium vector environment, and Stable-Baselines3 "
            "has a kind of its own: wrap it, llm_gym.GymVecEnv(env), made with "
            "autoreset_mode='SameStep'"
        )
