"""The worlds that are tried: every name that their libraries know, and what each is made with."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

# SkyRL's data are not in its package; these are rows as it takes them.
SUMS = [
    {
        "prompt": f"What is {n} + 70? Put the answer behind ####.",
        "reward_spec": {"ground_truth": str(n + 70)},
        "reward_model": {"ground_truth": str(n + 70)},
        "extra_info": {"max_turns": 3},
    }
    for n in range(10)
]
SKYRL = ("aime", "gsm8k", "gsm8k_multi_turn")  # the others run what the agent writes, or search
# Games that never return when they are begun with one player.
FOR_SEVERAL = ("textarena:MarketEntryGame-v0", "textarena:PublicGoodsGame-v0")
_BRACKETS = re.compile(r"\[[^\[\]\n]{1,20}\]")
_HEARD = 2000  # last characters of what an opponent has heard


def opponent(heard: str) -> str:
    """Says something in brackets that it has heard lately, which is a move in many games."""
    moves = _BRACKETS.findall(heard[-_HEARD:]) or ["[0]"]
    return moves[zlib.crc32(heard.encode()) % len(moves)]


def _of_textarena() -> list[str]:
    registry = import_module("textarena.envs.registration").ENV_REGISTRY
    # Those with other wrappers of observations are the same games here.
    return [name for name in registry if not name.endswith(("-raw", "-train"))]


def _of_gem() -> list[str]:
    registry = import_module("gem.envs.registration").ENV_REGISTRY
    return [name for name in registry if not name.startswith("rg:")]  # reasoning-gym's, below


def _of_reasoning_gym() -> list[str]:
    import reasoning_gym

    return sorted(reasoning_gym.factory.DATASETS)


LISTS: dict[str, Callable[[], list[str]]] = {
    "gem": _of_gem,
    "textarena": _of_textarena,
    "reasoning_gym": _of_reasoning_gym,
    "skyrl_gym": lambda: list(SKYRL),
}


def names(library: str) -> list[str]:
    """The names of a library's worlds, as `world=` takes them; none if it is not installed."""
    try:
        return [f"{library}:{name}" for name in LISTS[library]()]
    except ImportError as error:
        print(f"{library}: left out ({error})")
        return []


def arguments(world: str, num_players: int) -> dict[str, Any]:
    """What a world is made with, for so many players."""
    if world.startswith("skyrl_gym:"):
        return {"tasks": SUMS}
    if num_players > 1:
        return {"num_players": num_players, "opponent": opponent}
    return {}
