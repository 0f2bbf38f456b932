"""The pilots to compare with: one that does nothing, one that does anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.aircraft import NAVION, Aircraft
from llm_gym_autopilot.noise import NoiseStreams
from llm_gym_autopilot.pilots.protocol import ELEVATOR_LIMIT, Array, ArrayPilot, Sight
from llm_gym_autopilot.trim import trim

__all__ = ["RandomPilot", "TrimPilot"]


@dataclass(frozen=True)
class TrimPilot(ArrayPilot):
    """Sets the controls that hold level flight at the target airspeed, and lets go.

    Attributes:
        aircraft: Whose level flight.
        altitude: At which, m; observations do not tell the altitude.
    """

    aircraft: Aircraft = NAVION
    altitude: float = 1400.0

    def _fly(self, seen: Sight, memory: NDArray[Any]) -> tuple[Array, Array, NDArray[Any]]:
        level = trim(self.aircraft, seen.target_airspeed, self.altitude)
        return level.elevator, level.throttle, memory


@dataclass(frozen=True)
class RandomPilot(ArrayPilot):
    """Draws stick and throttle uniformly at every step.

    Attributes:
        seed: Seed of the streams, one a row; a new episode goes on with its row's.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, (int, np.integer)):
            raise TypeError(f"seed must be an integer, got {self.seed!r}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")

    def _begin(self, seen: Sight) -> NDArray[Any]:
        size = seen.climb.size, 1
        return np.random.default_rng(self.seed).integers(2**64, size=size, dtype=np.uint64)

    def _forget(self, seen: Sight, memory: NDArray[Any], episode_start: object) -> NDArray[Any]:
        return memory

    def _fly(self, seen: Sight, memory: NDArray[Any]) -> tuple[Array, Array, NDArray[Any]]:
        streams = NoiseStreams(memory[:, 0])
        stick = 2.0 * streams.uniform().astype(np.float64) - 1.0
        throttle = streams.uniform().astype(np.float64)
        return -ELEVATOR_LIMIT * stick, throttle, streams.state[:, None]
