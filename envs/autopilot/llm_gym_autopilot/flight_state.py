"""What a flight consists of, and how it is kept and put back bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from llm_gym_autopilot.aircraft import AircraftLimits
from llm_gym_autopilot.noise import NoiseStream
from llm_gym_autopilot.task import STEP_SECONDS

__all__ = ["FlightState"]

_SAVED = (
    "_elevator", "_throttle", "_target_altitude", "_target_airspeed", "_level",
    "_gust_a", "_gust_b", "_gust_c", "_gust_u", "_gust_w",
    "_held_altitude", "_held_airspeed", "steps",
)  # fmt: skip
_FLOWN = ("_u", "_w", "_q", "_theta", "_altitude", "_power", "_load_factor", "_thrust")


class FlightState(gym.Env[NDArray[np.float32], Any]):
    """The variables of one flight; `FlightEnv` flies them, `FlightDisplay` shows them.

    Everything that the rest of the episode and later episodes depend on is kept; what is derived
    from it comes back by `_observe`. An aeroplane that is more than eight numbers overrides
    `_flight_state` and `_restore_flight`.

    Attributes:
        aircraft: The aeroplane's limits.
        steps: Steps of the running episode.
    """

    aircraft: AircraftLimits
    steps: int

    # The aeroplane: body axes, SI units, radians.
    _u: float
    _w: float
    _q: float
    _theta: float
    _altitude: float
    _power: float
    _load_factor: float
    _thrust: float

    # The task: commands, targets, turbulence; a bit a step for whether the target was held.
    _elevator: float
    _throttle: float
    _target_altitude: float
    _target_airspeed: float
    _level: int
    _gust_a: float
    _gust_b: float
    _gust_c: float
    _gust_u: float
    _gust_w: float
    _held_altitude: int
    _held_airspeed: int
    _cause: str | None
    _running: bool
    _terms: tuple[float, float, float]
    _noise: NoiseStream | None  # of the gusts; None before the first episode
    _start_noise: NoiseStream
    _path: list[tuple[float, float]]

    # Derived by `_observe`.
    _airspeed: float
    _alpha: float
    _climb: float
    _altitude_error: float
    _airspeed_error: float

    def _observe(self) -> NDArray[np.float32]:
        raise NotImplementedError

    def get_state(self) -> dict[str, Any]:
        """All that the rest of the episode, and later episodes, depend on.

        Returns:
            Plain numbers, for `set_state` or `reset(options={"state": ...})`. A time limit's count
            of steps is kept by its wrapper and not in here.

        Raises:
            ResetNeeded: There was no episode yet.
        """
        if self._noise is None:
            raise ResetNeeded("call reset() first: there is no state yet")
        return {
            "aircraft": self.aircraft.name,
            "flight": self._flight_state(),
            **{name.lstrip("_"): getattr(self, name) for name in _SAVED},
            "cause": self._cause,
            "running": self._running,
            "reward_terms": list(self._terms),
            "noise": self._noise.state,
            "start_noise": self._start_noise.state,
            "np_random": self.np_random.bit_generator.state,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state; everything that follows is bit for bit what followed then.

        Args:
            state: From `get_state`.

        Raises:
            ValueError: It is the state of another aeroplane, or something is missing.
            TypeError: It is no mapping.
        """
        _check_state(state, self.aircraft.name)
        self._restore_flight(state["flight"])  # first, because it may refuse
        for name in _SAVED:
            setattr(self, name, state[name.lstrip("_")])
        self._cause, self._running = state["cause"], bool(state["running"])
        self._terms = tuple(state["reward_terms"])
        self._noise = NoiseStream(int(state["noise"]))
        self._start_noise = NoiseStream(int(state["start_noise"]))
        self.np_random.bit_generator.state = dict(state["np_random"])
        self._path = [(self.steps * STEP_SECONDS, self._altitude)]
        self._observe()

    def _flight_state(self) -> dict[str, Any]:
        """What `get_state` keeps of the aeroplane."""
        return {name[1:]: getattr(self, name) for name in _FLOWN}

    def _restore_flight(self, state: Mapping[str, Any]) -> None:
        if state.keys() != {name[1:] for name in _FLOWN}:
            raise ValueError(
                "state is of another simulator; it must come from this environment's id"
            )
        for name in _FLOWN:
            setattr(self, name, float(state[name[1:]]))


def _check_state(state: Any, aircraft: str) -> None:
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a dict from get_state(), got {type(state).__name__}")
    needed = {
        "aircraft", "flight", "cause", "running", "reward_terms", "noise", "start_noise",
        "np_random",
    }  # fmt: skip
    missing = sorted((needed | {name.lstrip("_") for name in _SAVED}) - state.keys())
    if missing:
        raise ValueError(f"state lacks {', '.join(missing)}; it must come from get_state()")
    if state["aircraft"] != aircraft:
        raise ValueError(
            f"state is of aircraft {state['aircraft']!r}, this environment flies {aircraft!r}"
        )
