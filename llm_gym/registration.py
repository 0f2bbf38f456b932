"""Registering environments with Gymnasium: our own, users' tasks and plug-ins."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import gymnasium as gym

if TYPE_CHECKING:
    from llm_gym.text import TextGenerationEnv, TextGenerationVectorEnv

PLUGIN_GROUP = "llm_gym.envs"


def register_environments() -> None:
    """Registers the environments of the library; nothing heavy is imported until they are made."""
    gym.register(
        "llm_gym/TextGeneration-v0",
        entry_point="llm_gym.text:TextGenerationEnv",
        vector_entry_point="llm_gym.text:TextGenerationVectorEnv",
    )
    gym.register(
        "llm_gym/PoliteEmail-v0",
        entry_point="llm_gym.registration:make_polite_email",
        vector_entry_point="llm_gym.registration:make_polite_email_vector",
        kwargs={"split": "train"},
    )


def register_task(id: str, **arguments: Any) -> None:
    """Registers a text environment of one's own: a task is prompts, a scorer and the rest as data.

    ```python
    llm_gym.register_task("me/Haiku-v0", tokenizer="gpt2", prompts="topics.txt", scorer=syllables)
    env = gymnasium.make_vec("me/Haiku-v0", num_envs=8)
    ```

    Args:
        id: Id for `gymnasium.make` and `gymnasium.make_vec`.
        **arguments: Arguments of `TextGenerationEnv`; those given to `make` take precedence. They
            are used as they are, never copied: environments share the scorer and its model.

    Raises:
        gymnasium.error.Error: The id is malformed.
    """

    # Functions, because Gymnasium would deep-copy registered keyword arguments, scorer and all.
    def make(**overrides: Any) -> TextGenerationEnv:
        from llm_gym.text import TextGenerationEnv

        return TextGenerationEnv(**{**arguments, **overrides})

    def make_vector(**overrides: Any) -> TextGenerationVectorEnv:
        from llm_gym.text import TextGenerationVectorEnv

        return TextGenerationVectorEnv(**{**arguments, **overrides})

    gym.register(id, entry_point=make, vector_entry_point=make_vector)


def make_polite_email(**arguments: Any) -> TextGenerationEnv:
    """Writes an email as asked, judged for politeness from 0 to 100 (`llm_gym/PoliteEmail-v0`).

    Args:
        **arguments: `split` ("train" or "test") chooses the prompts; all others are arguments of
            `TextGenerationEnv` and override the task's own.

    Returns:
        The environment.
    """
    from llm_gym.polite_email.task import environment_kwargs
    from llm_gym.text import TextGenerationEnv

    return TextGenerationEnv(**environment_kwargs(**arguments))


def make_polite_email_vector(**arguments: Any) -> TextGenerationVectorEnv:
    """Makes the vector form of `llm_gym/PoliteEmail-v0`.

    Args:
        **arguments: As `make_polite_email`, for `TextGenerationVectorEnv`.

    Returns:
        The vector environment.
    """
    from llm_gym.polite_email.task import environment_kwargs
    from llm_gym.text import TextGenerationVectorEnv

    return TextGenerationVectorEnv(**environment_kwargs(**arguments))


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
