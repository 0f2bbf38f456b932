"""Actions that say how far to move stick and throttle, instead of where to put them.

A policy without memory that says where the stick belongs has to know the trim of every speed and
every aeroplane by heart, and is off target by what it does not know. One that says how far to move
it may go on moving until it is on target: its movements add up, like the integral of a PID loop.
The observation shows where stick and throttle are, so this needs no memory either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from llm_gym_autopilot import task
from llm_gym_autopilot.aircraft import NAVION

__all__ = ["LARGEST_MOVES", "MovementActions", "positions"]

# Of stick and throttle lever in a step, each from -1 to 1: 4.9 degrees of elevator, 30 % of power.
LARGEST_MOVES = (0.5, 0.6)

_ELEVATOR = task.OBSERVATION_NAMES.index("elevator_command")
_THROTTLE = task.OBSERVATION_NAMES.index("throttle_command")
_POWER = task.OBSERVATION_NAMES.index("power")
_STICK_PER_ENTRY = -task.ELEVATOR_SCALE / NAVION.elevator_limit


def positions(
    observation: NDArray[Any], moves: NDArray[Any], largest: tuple[float, float] = LARGEST_MOVES
) -> NDArray[np.float32]:
    """Where stick and throttle lever are after a movement.

    Args:
        observation: float32 `(..., 11)`, which shows where they are now.
        moves: `(..., 2)` from -1 to 1 (cut off beyond), as shares of the largest.
        largest: Moves of stick and lever in a step.

    Returns:
        Action of `llm_gym/Autopilot-v0`, float32 `(..., 2)` from -1 to 1.
    """
    now = np.stack(
        [observation[..., _ELEVATOR] * _STICK_PER_ENTRY, observation[..., _THROTTLE]], axis=-1
    )
    moved = now + np.clip(moves, -1.0, 1.0) * np.array(largest, dtype=np.float32)
    return np.clip(moved, -1.0, 1.0).astype(np.float32)


class MovementActions(VectorWrapper):
    """`llm_gym/Autopilot-v0` of many rows, flown by movements, resetting rows in the same step.

    With `rigging`, every episode shows elevator, throttle and power off by constants of its own, as
    if each aeroplane were rigged differently. What a movement does stays the same, so a policy
    learns to move until it is on target, not where the controls of this one aeroplane belong.

    Args:
        env: The vector environment.
        largest: Moves of stick and lever that an action of 1 is, each more than 0, at most 2.
        rigging: Largest shift of the observation's entries of elevator, and of throttle and power.

    Raises:
        ValueError: The environment has other actions or another way to reset, or a number is out of
            range.
    """

    def __init__(
        self,
        env: VectorEnv,
        largest: tuple[float, float] = LARGEST_MOVES,
        rigging: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        super().__init__(env)
        space = env.single_action_space
        if not isinstance(space, spaces.Box) or space.shape != (2,):
            raise ValueError(
                f"env must be moved by stick and throttle, but its actions are {space}"
            )
        if env.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
            raise ValueError("env must be made with autoreset_mode='SameStep'")
        if len(largest) != 2 or not all(0 < move <= 2 for move in largest):
            raise ValueError(f"largest={largest!r} must be two numbers, above 0 and at most 2")
        if len(rigging) != 2 or not all(0 <= shift <= 2 for shift in rigging):
            raise ValueError(f"rigging={rigging!r} must be two numbers from 0 to 2")
        self.largest = (float(largest[0]), float(largest[1]))
        self.rigging = (float(rigging[0]), float(rigging[1]))
        self._rng = np.random.default_rng()
        self._observation = np.zeros((env.num_envs, len(task.OBSERVATION_NAMES)), np.float32)
        self._shift = np.zeros_like(self._observation)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts episodes, as the environment does."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._observation, info = self.env.reset(seed=seed, options=options)
        self._rig(np.ones(self.num_envs, dtype=np.bool_))
        return self._observation + self._shift, info

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Moves stick and throttle, and fly for 0.2 s.

        Args:
            actions: `(N, 2)` from -1 to 1: shares of the largest moves.

        Returns:
            What the environment returns, with observations as they are rigged.
        """
        action = positions(self._observation, np.asarray(actions), self.largest)
        self._observation, rewards, terminated, truncated, infos = self.env.step(action)
        ended = terminated | truncated
        if ended.any():
            for row in np.flatnonzero(ended):
                infos["final_obs"][row] = infos["final_obs"][row] + self._shift[row]
            self._rig(ended)
        return self._observation + self._shift, rewards, terminated, truncated, infos

    def get_state(self) -> dict[str, Any]:
        """All that the future depends on: the environment's state, and how its rows are rigged."""
        return {
            "env": self.env.get_state(),  # type: ignore[attr-defined]
            "random": self._rng.bit_generator.state,
            "observation": self._observation.copy(),
            "shift": self._shift.copy(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state of `get_state`; what follows is bit for bit what followed then."""
        self.env.set_state(state["env"])  # type: ignore[attr-defined]
        self._rng.bit_generator.state = state["random"]
        self._observation = np.array(state["observation"], dtype=np.float32)
        self._shift = np.array(state["shift"], dtype=np.float32)

    def _rig(self, rows: NDArray[np.bool_]) -> None:
        elevator, throttle = self._rng.uniform(-1.0, 1.0, (2, int(rows.sum())))
        self._shift[rows, _ELEVATOR] = self.rigging[0] * elevator
        self._shift[rows, _THROTTLE] = self._shift[rows, _POWER] = self.rigging[1] * throttle
