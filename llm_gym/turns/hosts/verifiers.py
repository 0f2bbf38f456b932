"""A world, or one of our tasks, as a taskset and an environment of verifiers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from llm_gym.turns.sources.making import library
from llm_gym.turns.worlds import Fault, Worlds


def verifiers_classes(
    make: Callable[[], Any], *, time_limit: float | None = 60.0
) -> tuple[type, type]:
    """The two classes that a module exports for verifiers (0.4 or newer) to play a world.

    ```python
    GuessTaskset, GuessEnv = verifiers_classes(Guess)
    __all__ = ["GuessTaskset", "GuessEnv"]
    ```

    In a module `guess_world` that is enough for `vf-eval guess_world -n 20` and for prime-rl. Task
    i is the conversation that begins with seed i, there are ever more of them, and the reward
    "return" is the sum of the world's. The agent's seat is called `player`.

    Args:
        make: Makes the world: anything with `reset(seed)` and `step(text)`.
        time_limit: Seconds that a call of the world may take; None is no limit.

    Returns:
        A `verifiers.v1.Taskset` and a `verifiers.v1.Env`.

    Raises:
        ImportError: verifiers is missing.
    """
    vf: Any = library("verifiers.v1", "verifiers_classes", "verifiers")

    class Conversations(vf.Taskset):
        INFINITE = True

        def load(self) -> Iterator[Any]:
            for seed in itertools.count():
                yield vf.Task(vf.TaskData(idx=seed, name=f"seed {seed}"), self.config.task)

    class Seats(vf.EnvConfig):
        player: vf.AgentConfig = vf.AgentConfig()

    class Played(vf.Env[Seats]):
        async def run(self, task: Any, agents: Any) -> None:
            worlds = await asyncio.to_thread(Worlds, make, 1, time_limit)
            try:
                text, _ = (await asyncio.to_thread(worlds.reset, {0: task.data.idx}))[0]
                total, over = 0.0, False
                async with agents.player.interaction(task) as interaction:
                    while not over and not (said := await interaction.turn(text)).terminated:
                        answer = (await asyncio.to_thread(worlds.step, {0: said.last_reply}))[0]
                        if isinstance(answer, Fault):
                            raise answer.error
                        text, total = answer.text, total + answer.reward
                        over = answer.terminated or answer.truncated
                    interaction.trace.record_reward("return", total)
            finally:
                await asyncio.to_thread(worlds.close)

    return Conversations, Played
