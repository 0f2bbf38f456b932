"""Worlds of SkyRL-gym (https://github.com/NovaSky-AI/SkyRL): one environment for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_gym.turns.sources.making import check_name, check_runs_answers, library, made

#: Ids that run programs or queries that the agent writes.
_RUN_ANSWERS = ("lcb", "searchcode", "text2sql")


class SkyRLWorld:
    """An environment of SkyRL-gym: `world="skyrl_gym:gsm8k"`, `world_kwargs={"tasks": [...]}`.

    SkyRL's data are rows: the prompt, and what judges the answer. The seed chooses a row, and each
    episode makes the environment anew from it. Messages are shown by what they say, one under the
    other.

    Args:
        name: An id of SkyRL-gym's.
        tasks: Rows, each with "prompt", a text or messages, and what else the environment asks for
            (its `extras`), such as `{"reward_spec": {"ground_truth": "72"}}`.
        env_config: Settings of the environment, as SkyRL takes them.
        run_answers: Allow ids that run what the agent writes: "lcb", "searchcode", "text2sql".

    Raises:
        ImportError: SkyRL-gym is missing.
        ValueError: It has no such id, or one that runs answers; or tasks are missing, or one has no
            prompt.
        WorldError: SkyRL-gym could not make it.
    """

    def __init__(
        self,
        name: str,
        *,
        tasks: Sequence[Mapping[str, Any]] = (),
        env_config: Any = None,
        run_answers: bool = False,
    ) -> None:
        self._world, self._name = f"skyrl_gym:{name}", name
        self._library = library("skyrl_gym", self._world, "skyrl")
        known = library("skyrl_gym.envs.registration", self._world, "skyrl").registry
        check_name(self._world, name, known)
        check_runs_answers(self._world, runs=name in _RUN_ANSWERS, run_answers=run_answers)
        if not tasks or not all("prompt" in task for task in tasks):
            raise ValueError(
                f"world={self._world!r} needs world_kwargs={{'tasks': [...]}}: rows with a "
                f'"prompt" and what judges the answer, got tasks={tasks!r:.80}'
            )
        self._tasks, self._config = tasks, env_config
        self.env = self._made(tasks[0])

    def _made(self, task: Mapping[str, Any]) -> Any:
        with made(self._world):
            return self._library.make(self._name, env_config=self._config, extras=dict(task))

    def reset(self, *, seed: int) -> tuple[str, dict[str, Any]]:
        """Begins the task that the seed chooses."""
        task = self._tasks[seed % len(self._tasks)]
        prompt = task["prompt"]
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        self.env = self._made(task)
        first, info = self.env.init([dict(message) for message in messages])
        return _shown(first), dict(info)

    def step(self, text: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Answers a turn; SkyRL tells ends from truncations by nothing, so all are ends."""
        told = self.env.step(text)
        info = dict(told.get("metadata") or {})
        return _shown(told["observations"]), float(told["reward"]), bool(told["done"]), False, info

    def close(self) -> None:
        """Closes the environment of the last task."""
        self.env.close()


def _shown(messages: Sequence[Mapping[str, Any]]) -> str:
    return "\n\n".join(str(message["content"]) for message in messages)
