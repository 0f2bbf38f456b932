"""What other libraries know of us: environments in Gymnasium, names in Stable-Baselines3."""

from __future__ import annotations

import functools
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any

import gymnasium as gym

if TYPE_CHECKING:
    from llm_gym.text import TextGenerationEnv, TextGenerationVectorEnv

PLUGIN_GROUP = "llm_gym.envs"

_SB3 = "stable_baselines3"
_POLICY_NAME = "TransformerPolicy"
# Modules that turn what they are given into a Gymnasium environment.
_PATCHERS = ("common.base_class", "common.env_util", "common.vec_env.dummy_vec_env")


def register_environments() -> None:
    """Registers the environments of the library; nothing heavy is imported until they are made."""
    gym.register(
        "llm_gym/TextGeneration-v0",
        entry_point="llm_gym.text:TextGenerationEnv",
        vector_entry_point="llm_gym.text:TextGenerationVectorEnv",
        kwargs=RegisteredArguments(),
    )
    gym.register(
        "llm_gym/Turns-v0",
        entry_point="llm_gym.turns:TurnEnv",
        vector_entry_point="llm_gym.turns:TurnVectorEnv",
        kwargs=RegisteredArguments(),
    )
    register_task(
        "llm_gym/PoliteEmail-v0", "llm_gym.polite_email.task:environment_kwargs", split="train"
    )


def register_task(
    id: str, kwargs_of: str | Callable[..., Mapping[str, Any]] | None = None, **arguments: Any
) -> None:
    """Registers a text environment of one's own: a task is prompts, a scorer and the rest as data.

    ```python
    llm_gym.register_task("me/Haiku-v0", tokenizer="gpt2", prompts="topics.txt", scorer=syllables)
    env = gymnasium.make_vec("me/Haiku-v0", num_envs=8)
    ```

    A task with arguments of its own (a split, a level) gives a function that turns those into the
    environment's:

    ```python
    def sums(split="train", digits=2, **overrides):
        return {"tokenizer": "gpt2", "prompts": ..., "scorer": ..., **overrides}


    llm_gym.register_task("me/Sums-v0", sums, split="train")
    env = gymnasium.make("me/Sums-v0", digits=3)
    ```

    Args:
        id: Id for `gymnasium.make` and `gymnasium.make_vec`.
        kwargs_of: Function of the arguments that `make` is given, which returns those of
            `TextGenerationEnv`; or its place as `"module:function"`, imported when the environment
            is made. `None` hands them on as they are.
        **arguments: Arguments of `kwargs_of`, or of `TextGenerationEnv` without it; those given to
            `make` take precedence. Without `kwargs_of` they are used as they are, never copied:
            environments share the scorer and its model. Where all of them are plain data (a scorer
            by its name, a tokenizer by its path) they stand in the specification instead, which can
            then be written as JSON.

    Raises:
        gymnasium.error.Error: The id is malformed.
        TypeError: `kwargs_of` is something else.
        ValueError: `kwargs_of` is a text, but no `"module:function"`.
    """
    if isinstance(kwargs_of, str):
        module, _, function = kwargs_of.partition(":")
        if not module or not function:
            raise ValueError(f'kwargs_of={kwargs_of!r} must be "module:function" or a function')
        gym.register(
            id,
            entry_point="llm_gym.registration:make_task",
            vector_entry_point="llm_gym.registration:make_vector_task",
            kwargs=RegisteredArguments(kwargs_of=kwargs_of, **arguments),
        )
        return
    if kwargs_of is not None and not callable(kwargs_of):
        raise TypeError(f'kwargs_of={kwargs_of!r} must be "module:function" or a function')
    if kwargs_of is None and _is_plain(arguments):
        gym.register(
            id,
            entry_point="llm_gym.text:TextGenerationEnv",
            vector_entry_point="llm_gym.text:TextGenerationVectorEnv",
            kwargs=arguments,
        )
        return

    # Functions, because Gymnasium would deep-copy registered keyword arguments, scorer and all.
    def make(**overrides: Any) -> TextGenerationEnv:
        return make_task(kwargs_of or dict, **{**shared, **overrides})

    def make_vector(**overrides: Any) -> TextGenerationVectorEnv:
        return make_vector_task(kwargs_of or dict, **{**shared, **overrides})

    make.__doc__ = getattr(
        kwargs_of, "__doc__", None
    )  # what the task is, for lists of environments
    # What `kwargs_of` is given is small and may be looked at: `gymnasium.spec(id).kwargs["split"]`.
    shared, visible = (arguments, {}) if kwargs_of is None else ({}, arguments)
    gym.register(
        id, entry_point=make, vector_entry_point=make_vector, kwargs=RegisteredArguments(visible)
    )


class RegisteredArguments(dict[str, Any]):
    """Registered arguments, with which `make_vec` takes `vector_kwargs` in every mode.

    Gymnasium hands `vector_kwargs` to `SyncVectorEnv` and `AsyncVectorEnv`, and refuses them for a
    native vector form, which takes the same (`autoreset_mode`) among its own arguments. It asks
    here for both before it decides.
    """

    _mode: Any = None

    def pop(self, key: str, *default: Any) -> Any:
        """As a dict's; `vector_kwargs` of a native vector form become arguments."""
        value = super().pop(key, *default)
        if key == "vectorization_mode":
            self._mode = getattr(value, "value", value)
        if key == "vector_kwargs" and self._mode in (None, "vector_entry_point"):
            self.update(value)
            return {}
        return value


def _is_plain(arguments: Mapping[str, Any]) -> bool:
    """Whether arguments can be written as JSON."""
    try:
        json.dumps(arguments)
    except (TypeError, ValueError):
        return False
    return True


def make_task(
    kwargs_of: str | Callable[..., Mapping[str, Any]], **arguments: Any
) -> TextGenerationEnv:
    """Makes the environment of a registered task.

    Args:
        kwargs_of: See `register_task`.
        **arguments: Its arguments.

    Returns:
        The environment.
    """
    from llm_gym.text import TextGenerationEnv

    return TextGenerationEnv(**_function(kwargs_of)(**arguments))


def make_vector_task(
    kwargs_of: str | Callable[..., Mapping[str, Any]], **arguments: Any
) -> TextGenerationVectorEnv:
    """Makes the vector form of a registered task.

    Args:
        kwargs_of: See `register_task`.
        **arguments: Its arguments.

    Returns:
        The environment.
    """
    from llm_gym.text import TextGenerationVectorEnv

    return TextGenerationVectorEnv(**_function(kwargs_of)(**arguments))


def _function(
    kwargs_of: str | Callable[..., Mapping[str, Any]],
) -> Callable[..., Mapping[str, Any]]:
    if not isinstance(kwargs_of, str):
        return kwargs_of
    module, _, name = kwargs_of.partition(":")
    return getattr(import_module(module), name)


def load_plugins() -> None:
    """Imports the modules of the entry-point group `llm_gym.envs`, which register environments.

    One that fails to import is left out with a warning that names it, so that a broken plug-in
    does not break `import llm_gym`.
    """
    for plugin in entry_points(group=PLUGIN_GROUP):
        _load(plugin.name, plugin.value, plugin.load)


def _load(name: str, module: str, load: Callable[[], Any]) -> None:
    try:
        load()
    except Exception as error:  # whatever somebody else's module raises
        warnings.warn(
            f"the llm_gym plug-in {name!r} ({module}) could not be imported and is left out: "
            f"{type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=2,
        )


def extend_stable_baselines3() -> None:
    """Lets Stable-Baselines3 understand what would be an error: now, or as soon as it is imported.

    - `PPO("TransformerPolicy", ...)` and A2C: the name of `llm_gym.TransformerActorCriticPolicy`.
    - `rollout_buffer_class="llm_gym.EpisodeBuffer"`: a class by its name, as YAML files can say it.
    - An environment, a wrapper or an optimizer that does not go with that policy is refused, or
      said, when the algorithm is made (`llm_gym.policy.setup`).
    - A Gymnasium vector environment where a `VecEnv` is needed: the error says `GymVecEnv(env)`.

    Nothing is imported for it. Loops and losses are untouched, and so is every call that worked
    before.
    """
    if _SB3 in sys.modules:
        _teach()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


class _Waiting(MetaPathFinder):
    """Finds Stable-Baselines3 as everybody else does, and teaches it when it has been loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _SB3:
            return None
        finders = (finder for finder in sys.meta_path if finder is not self)
        specs = (f.find_spec(name, path, target) for f in finders if hasattr(f, "find_spec"))
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
        algorithm_class = getattr(import_module(f"{_SB3}.{module}"), algorithm)
        if not isinstance(algorithm_class.policy_aliases, _Aliases):
            algorithm_class.policy_aliases = _Aliases(algorithm_class.policy_aliases)
    base = import_module(f"{_SB3}.common.base_class").BaseAlgorithm
    base._setup_lr_schedule = _once(base._setup_lr_schedule, _before_set_up)
    for name in _PATCHERS:
        patcher: Any = import_module(f"{_SB3}.{name}")
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
