"""A world, or one of our tasks, behind a server of OpenEnv."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_gym.turns.sources.making import library


def openenv_app(make: Callable[[], Any], *, sessions: int = 16) -> Any:
    """An application for uvicorn that serves a world, one to a session.

    ```python
    uvicorn.run(openenv_app(MyWorld), host="127.0.0.1", port=8000)
    ```

    An action has the field `message`, what the agent says; an observation `text`, what the world
    does, and whether it was cut off in `truncated`. `world="openenv:http://127.0.0.1:8000"` with
    `world_kwargs={"observation": "text"}` is the way back.

    Args:
        make: Makes a world: anything with `reset(seed)` and `step(text)`.
        sessions: The most that are open at a time.

    Returns:
        A FastAPI application. It listens nowhere by itself, and asks nobody who they are: keep it
        on loopback.

    Raises:
        ImportError: OpenEnv is missing.
    """
    openenv = library("openenv.core.env_server", "openenv_app", "openenv")
    action: Any = openenv.Action
    observation: Any = openenv.Observation
    environment: Any = openenv.Environment

    class Said(action):
        message: str

    class Heard(observation):
        text: str = ""
        truncated: bool = False

    class Served(environment):
        SUPPORTS_CONCURRENT_SESSIONS = True
        state = openenv.State()

        def __init__(self) -> None:
            super().__init__()
            self.world = make()

        def reset(self, seed: int | None = None, **_: Any) -> Heard:
            told = self.world.reset(seed=seed)
            return Heard(text=told[0] if isinstance(told, tuple) else told)

        def step(self, said: Said, **_: Any) -> Heard:
            text, reward, terminated, truncated, _info = self.world.step(said.message)
            done = bool(terminated or truncated)
            return Heard(text=text, reward=float(reward), done=done, truncated=bool(truncated))

    return openenv.create_app(Served, Said, Heard, env_name="llm_gym", max_concurrent_envs=sessions)
