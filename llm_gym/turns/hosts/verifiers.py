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
    vf = library("verifiers.v1", "verifiers_classes", "verifiers")
    data: Any = vf.TaskData
    task: Any = vf.Task
    taskset: Any = vf.Taskset
    config: Any = vf.EnvConfig
    environment: Any = vf.Env

    class Seed(data):
        seed: int

    class Conversation(task[Seed]):
        pass

    class Conversations(taskset[Conversation]):
        INFINITE = True

        def load(self) -> Iterator[Conversation]:
            for seed in itertools.count():
                yield Conversation(Seed(name=f"seed {seed}", seed=seed), self.config.task)

    class Seats(config):
        player: vf.AgentConfig = vf.AgentConfig()  # type: ignore[name-defined]

    class Played(environment[Seats]):
        async def run(self, task: Conversation, agents: Any) -> None:
            def told(method: Callable[[Any], Any], argument: Any) -> Any:
                answer = method({0: argument})[0]
                if isinstance(answer, Fault):
                    raise answer.error
                return answer

            worlds = await asyncio.to_thread(Worlds, make, 1, time_limit)
            try:
                text, _ = await asyncio.to_thread(told, worlds.reset, task.data.seed)
                total, over = 0.0, False
                async with agents.player.interaction(task) as interaction:
                    segment = await interaction.turn(text)
                    while not (segment.terminated or over):
                        answer = await asyncio.to_thread(told, worlds.step, segment.last_reply)
                        total += answer.reward
                        over = answer.terminated or answer.truncated
                        if not over:
                            segment = await interaction.turn(answer.text)
                    interaction.trace.record_reward("return", total)
            finally:
                await asyncio.to_thread(worlds.close)

    return Conversations, Played
