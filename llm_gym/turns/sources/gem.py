"""Worlds of GEM (https://github.com/axon-rl/gem), which are of turns already."""

from __future__ import annotations

from typing import Any

from llm_gym.turns.sources.global_random import OwnRandom
from llm_gym.turns.sources.making import check_name, check_runs_answers, library, made

#: Kinds of ids whose judges run programs, or hand answers to parsers that evaluate them.
_RUN_ANSWERS = ("code", "eval", "math", "rg")


class GemWorld:
    """A world of GEM: `world="gem:game:GuessTheNumber-v0-easy"`.

    GEM's games draw from the global generators of Python and NumPy; here each has a state of its
    own. What GEM calls the suffix, a reminder of what to do, is the end of the text.

    Args:
        name: An id of GEM's.
        run_answers: Allow ids that run what the agent writes: "code:", "eval:", "math:", "rg:".
        **kwargs: Arguments of that environment.

    Raises:
        ImportError: GEM is missing.
        ValueError: It has no such id, or one that runs answers.
        WorldError: GEM could not make it.
    """

    def __init__(self, name: str, *, run_answers: bool = False, **kwargs: Any) -> None:
        world = f"gem:{name}"
        gem = library("gem", world, "gem")
        check_name(world, name, library("gem.envs.registration", world, "gem").ENV_REGISTRY)
        kind, _, task = name.partition(":")
        instead = f", or take world='reasoning_gym:{task}'" if kind == "rg" else ""
        runs = kind in _RUN_ANSWERS
        check_runs_answers(world, runs=runs, run_answers=run_answers, instead=instead)
        self._random = OwnRandom()
        with made(world), self._random.lent():
            self.env = gem.make(name, **kwargs)

    def reset(self, *, seed: int) -> tuple[str, dict[str, Any]]:
        """Begins anew; the first text and GEM's info."""
        with self._random.lent():
            return self.env.reset(seed=seed)

    def step(self, text: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Answers a turn, as GEM does."""
        with self._random.lent():
            said, reward, terminated, truncated, info = self.env.step(text)
        suffix = info.get("suffix")
        # A game that is over has no next turn to remind of.
        shown = f"{said}\n{suffix}" if suffix and not (terminated or truncated) else said
        return shown, float(reward), terminated, truncated, info
