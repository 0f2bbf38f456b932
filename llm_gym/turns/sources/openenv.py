"""Worlds behind a server of OpenEnv (https://github.com/meta-pytorch/OpenEnv)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_gym.turns.sources.making import library, made


class OpenEnvWorld:
    """An environment that an OpenEnv server runs: `world="openenv:http://127.0.0.1:8000"`.

    OpenEnv's actions and observations are records whose fields each server names itself. Here an
    action has one field, the agent's text, and of an observation one field is what the agent reads.

    Args:
        name: The server's address.
        action: The field of an action that takes the text.
        observation: The field of an observation that is read; None where only one is a text.

    Raises:
        ImportError: OpenEnv is missing.
        ValueError: The address is none of http, https, ws or wss.
        WorldError: Nobody answers there.
    """

    def __init__(self, name: str, *, action: str = "message", observation: str | None = None):
        world = f"openenv:{name}"
        if not name.startswith(("http://", "https://", "ws://", "wss://")):
            raise ValueError(
                f"world={world!r} must be an address, as openenv:http://127.0.0.1:8000"
            )
        client = library("openenv.core.generic_client", world, "openenv").GenericEnvClient
        self._action, self._observation = action, observation
        with made(world):
            self.env = client(base_url=name).sync()
            self.env.connect()

    def reset(self, *, seed: int) -> tuple[str, dict[str, Any]]:
        """Begins anew, with the seed that the server may or may not heed."""
        observation = self.env.reset(seed=seed).observation
        return self._text(observation), dict(observation)

    def step(self, text: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Answers a turn; OpenEnv knows no truncation, so all ends are ends."""
        told = self.env.step({self._action: text})
        observation = told.observation
        reward = 0.0 if told.reward is None else float(told.reward)
        return self._text(observation), reward, bool(told.done), False, dict(observation)

    def _text(self, observation: Mapping[str, Any]) -> str:
        field = self._observation
        if field is None:
            texts = [name for name, value in observation.items() if isinstance(value, str)]
            field = texts[0] if len(texts) == 1 else None
        if field is None or field not in observation:
            raise ValueError(
                f"observation={field!r} must name one of the fields that the server sends: "
                f"{', '.join(observation)}"
            )
        return str(observation[field])

    def close(self) -> None:
        """Ends the session."""
        self.env.close()
