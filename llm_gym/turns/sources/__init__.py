"""Worlds of other libraries, made by name: the library as Python imports it, a colon, its own name.

Each library has a module here, which is imported when a world of it is asked for; and only then is
the library.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

#: Library -> what makes a world of it, as "module:function(name, **kwargs)".
SOURCES = {
    "gem": "llm_gym.turns.sources.gem:GemWorld",
    "openenv": "llm_gym.turns.sources.openenv:OpenEnvWorld",
    "reasoning_gym": "llm_gym_reasoning.world:ReasoningWorld",
    "skyrl_gym": "llm_gym.turns.sources.skyrl_gym:SkyRLWorld",
    "textarena": "llm_gym.turns.sources.textarena:TextArenaWorld",
}


def source_of(world: str) -> Callable[..., Any] | None:
    """What makes a world of another library.

    Args:
        world: Its name, such as "gem:game:Sudoku-v0-easy".

    Returns:
        A function of the world's arguments; None where the name is not of a library known here.

    Raises:
        ImportError: The plug-in that knows the library is not installed.
    """
    library, colon, name = world.partition(":")
    if not colon or library not in SOURCES:
        return None
    module, _, function = SOURCES[library].partition(":")
    try:
        made = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise ImportError(
            f"world={world!r} needs the plug-in {package}: pip install {package} ({error})"
        ) from error
    return partial(made, name)
