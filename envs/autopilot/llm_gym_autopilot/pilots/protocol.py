"""What a pilot is: anything with Stable-Baselines3's `predict`, a model or a rule of thumb."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot import task
from llm_gym_autopilot.aircraft import NAVION

__all__ = [
    "ArrayPilot",
    "Pilot",
    "PilotState",
    "Sight",
    "check_numbers",
    "observation_of",
    "see",
    "to_action",
]

Array = NDArray[np.float64]
PilotState = tuple[NDArray[Any], ...] | None

# The stick's throw is part of the task, the same for every aeroplane in it.
ELEVATOR_LIMIT = NAVION.elevator_limit

_NAMES = task.OBSERVATION_NAMES
_SCALES = np.array(
    [
        task.ALTITUDE_SCALE,
        task.CLIMB_SCALE,
        task.AIRSPEED_ERROR_SCALE,
        task.AIRSPEED_SCALE,
        task.ALPHA_SCALE,
        task.PITCH_RATE_SCALE,
        task.PITCH_SCALE,
        0.5,
        task.ELEVATOR_SCALE,
        0.5,
        task.AIRSPEED_SCALE,
    ]
)[:, None]
_CENTRES = np.zeros((len(_NAMES), 1))
_CENTRES[[_NAMES.index("airspeed"), _NAMES.index("target_airspeed")]] = task.CENTRE_AIRSPEED
_CENTRES[[_NAMES.index("power"), _NAMES.index("throttle_command")]] = 0.5


class Pilot(Protocol):
    """Whatever flies, with the signature of Stable-Baselines3's models."""

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: PilotState = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], PilotState]:
        """Action for an observation.

        Args:
            observation: float32 `(11,)` or `(N, 11)`.
            state: What the last call returned; None before the first.
            episode_start: bool `(N,)`, rows whose episode starts with this observation.
            deterministic: Without exploration.

        Returns:
            Action float32 `(2,)` or `(N, 2)` (integers `()` or `(N,)` from a pilot of clicks), and
            the state for the next call.
        """


class Sight(NamedTuple):
    """An observation in SI units, float64 `(N,)` each.

    Attributes:
        altitude_error: Target minus actual, m; cut off at 150 m.
        climb: m/s.
        airspeed_error: Target minus actual, m/s.
        airspeed: m/s.
        alpha: Angle of attack, rad.
        pitch_rate: rad/s.
        pitch: rad.
        power: Share of the largest.
        elevator: Last command, rad, trailing edge down positive.
        throttle: Last command, 0 to 1.
        target_airspeed: m/s.
    """

    altitude_error: Array
    climb: Array
    airspeed_error: Array
    airspeed: Array
    alpha: Array
    pitch_rate: Array
    pitch: Array
    power: Array
    elevator: Array
    throttle: Array
    target_airspeed: Array


def see(observation: NDArray[Any]) -> Sight:
    """Reads an observation, undoing the task's scaling.

    Args:
        observation: `(N, 11)`.

    Returns:
        The quantities, `(N,)` each.
    """
    return Sight(*(observation.T * _SCALES + _CENTRES))


def observation_of(sight: Sight) -> NDArray[np.float32]:
    """The way back: an observation that says so much, cut off at its bounds.

    Args:
        sight: The quantities, `(N,)` each.

    Returns:
        float32 `(N, 11)`.
    """
    scaled = ((np.stack(sight) - _CENTRES) / _SCALES).T
    return np.clip(scaled, -task.OBSERVATION_BOUNDS, task.OBSERVATION_BOUNDS).astype(np.float32)


def to_action(elevator: Array, throttle: Array) -> NDArray[np.float32]:
    """Stick and throttle lever for commands; cut off at their stops.

    Args:
        elevator: rad, trailing edge down positive, `(N,)`.
        throttle: 0 to 1, `(N,)`.

    Returns:
        float32 `(N, 2)` from -1 to 1.
    """
    action = np.empty((elevator.size, 2), dtype=np.float32)
    np.clip(elevator * (-1.0 / ELEVATOR_LIMIT), -1.0, 1.0, out=action[:, 0], casting="same_kind")
    np.clip(2.0 * throttle - 1.0, -1.0, 1.0, out=action[:, 1], casting="same_kind")
    return action


class ArrayPilot(ABC):
    """A pilot that flies N aeroplanes by array arithmetic; it holds numbers, never a memory.

    What it has to remember of a flight travels in `state`, one row an aeroplane, so that one object
    can fly any number of flights at once. Subclasses are frozen dataclasses whose fields are the
    pilot's numbers; a field may also be an array `(N,)`, one number an aeroplane.
    """

    discrete: bool = False

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: PilotState = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], PilotState]:
        """Action for an observation.

        Args:
            observation: float32 `(11,)` or `(N, 11)`.
            state: What the last call returned; None before the first.
            episode_start: bool `(N,)`, rows whose episode starts with this observation; they
                forget.
            deterministic: Of no consequence: these pilots do not explore.

        Returns:
            Action float32 `(2,)` or `(N, 2)`, and the state for the next call: one array `(N, K)`.

        Raises:
            ValueError: Observation, state or episode_start has a wrong shape.
        """
        batch, alone = _as_batch(observation)
        seen = see(batch)
        if state is None:
            memory = self._begin(seen)
        else:
            memory = np.asarray(state[0])
            if memory.shape[:1] != batch.shape[:1]:
                raise ValueError(
                    f"state is of {memory.shape[0]} aeroplanes, observation of {batch.shape[0]}; "
                    "pass state=None to start anew"
                )
            memory = self._forget(seen, memory, episode_start)
        elevator, throttle, memory = self._fly(seen, memory)
        action = to_action(elevator, throttle)
        return (action[0] if alone else action), (memory,)

    def _forget(
        self, seen: Sight, memory: NDArray[Any], episode_start: NDArray[Any] | None
    ) -> NDArray[Any]:
        if episode_start is None:
            return memory
        starts = np.atleast_1d(np.asarray(episode_start, dtype=np.bool_))
        if starts.shape != memory.shape[:1]:
            raise ValueError(
                f"episode_start has shape {starts.shape}, but there are {memory.shape[0]} "
                "aeroplanes"
            )
        if not starts.any():
            return memory
        return np.where(starts[:, None], self._begin(seen), memory)

    def _begin(self, seen: Sight) -> NDArray[Any]:
        """Memory `(N, K)` at the start of a flight."""
        return np.empty((seen.climb.size, 0))

    @abstractmethod
    def _fly(self, seen: Sight, memory: NDArray[Any]) -> tuple[Array, Array, NDArray[Any]]:
        """Elevator [rad] and throttle [0 to 1], `(N,)`, and the new memory `(N, K)`."""


def check_numbers(pilot: Any, names: tuple[str, ...] = (), *, positive: bool = False) -> None:
    """Checks fields of a pilot.

    Args:
        pilot: A dataclass.
        names: Names of fields; all if empty.
        positive: Whether zero and below are wrong.

    Raises:
        TypeError: One is no number.
        ValueError: One is not finite, or not positive.
    """
    for name in names or tuple(field.name for field in fields(pilot)):
        value = getattr(pilot, name)
        if np.asarray(value).dtype.kind not in "fiu":
            raise TypeError(f"{name} must be a number, got {value!r}")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite, got {value!r}")
        if positive and not (np.asarray(value) > 0).all():
            raise ValueError(f"{name} must be positive, got {value!r}")


def _as_batch(observation: Any) -> tuple[NDArray[Any], bool]:
    """Observations `(N, 11)`, and whether there was a single one."""
    array = np.asarray(observation)
    batch = np.atleast_2d(array)
    if batch.ndim != 2 or batch.shape[1] != len(_NAMES):
        raise ValueError(
            f"observation must have shape ({len(_NAMES)},) or (N, {len(_NAMES)}), got {array.shape}"
        )
    return batch, array.ndim == 1
