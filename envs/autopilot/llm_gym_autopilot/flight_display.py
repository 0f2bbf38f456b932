"""What is told and shown of a flight."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
from gymnasium.error import ResetNeeded

from llm_gym_autopilot import task
from llm_gym_autopilot.flight_state import FlightState
from llm_gym_autopilot.telemetry import Telemetry
from llm_gym_autopilot.turbulence import LEVELS

__all__ = ["FlightDisplay"]

_LEVEL_NAMES = tuple(LEVELS)
_DEGREES = math.degrees(1.0)


class FlightDisplay(FlightState):
    """Instruments, infos and pictures of a flight; it reads the flight and changes none of it."""

    metadata: dict[str, Any] = {  # noqa: RUF012 -- Gymnasium's own attribute
        "render_modes": ["human", "rgb_array", "ansi"],
        "render_fps": 5,
    }
    _cockpit: Any = None

    def telemetry(self) -> Telemetry:
        """What the instruments show now.

        Returns:
            Floats.

        Raises:
            ResetNeeded: There was no episode yet.
        """
        if self._noise is None:
            raise ResetNeeded("call reset() first: there is no flight to show")
        return Telemetry(
            self._altitude, self._airspeed, self._climb, _DEGREES * self._theta,
            _DEGREES * self._alpha, _DEGREES * self._q, self._load_factor,
            _DEGREES * self._elevator, self._throttle, self._power, self._thrust,
            self._target_altitude, self._target_airspeed, self._altitude_error,
            self._airspeed_error, 0.0 - self._gust_w, self._gust_u,
        )  # fmt: skip

    @property
    def turbulence_level(self) -> str:
        """Turbulence of the running episode."""
        return _LEVEL_NAMES[self._level]

    @property
    def is_success(self) -> bool:
        """Whether the last 15 s were flown on target, without an early end."""
        return (
            self._cause is None
            and self.steps >= task.HELD_ALTITUDE_STEPS
            and self._held_altitude.bit_count() >= task.HELD_ALTITUDE_STEPS
            and self._held_airspeed.bit_count() >= task.HELD_AIRSPEED_STEPS
        )

    def _info(self) -> dict[str, Any]:
        # Written out: a dict made of `telemetry()` would take a tenth of a step's time longer.
        altitude, airspeed, smoothness = self._terms
        return {
            "altitude_m": self._altitude,
            "airspeed_mps": self._airspeed,
            "climb_mps": self._climb,
            "pitch_deg": _DEGREES * self._theta,
            "alpha_deg": _DEGREES * self._alpha,
            "pitch_rate_dps": _DEGREES * self._q,
            "load_factor": self._load_factor,
            "elevator_deg": _DEGREES * self._elevator,
            "throttle": self._throttle,
            "power": self._power,
            "thrust_n": self._thrust,
            "target_altitude_m": self._target_altitude,
            "target_airspeed_mps": self._target_airspeed,
            "altitude_error_m": self._altitude_error,
            "airspeed_error_mps": self._airspeed_error,
            "gust_mps": 0.0 - self._gust_w,
            "gust_longitudinal_mps": self._gust_u,
            "cause": self._cause,
            "is_success": self.is_success,
            "turbulence": _LEVEL_NAMES[self._level],
            "reward_terms": {
                "altitude": altitude,
                "airspeed": airspeed,
                "smoothness": smoothness,
            },
        }

    def render(self) -> Any:
        """Shows the flight, as `render_mode` says.

        Returns:
            uint8 `(400, 600, 3)` for "rgb_array", a line of text for "ansi", None for "human".

        Raises:
            DependencyNotInstalled: Pygame is missing.
            ResetNeeded: There was no episode yet.
        """
        from llm_gym_autopilot.rendering import Cockpit, CockpitFrame, instrument_line

        if self.render_mode is None:
            gym.logger.warn("render() does nothing without a render_mode, e.g. 'rgb_array'")
            return None
        frame = CockpitFrame.of(self)
        if self.render_mode == "ansi":
            return instrument_line(frame)
        if self._cockpit is None:
            self._cockpit = Cockpit()
        if self.render_mode == "human":
            return self._cockpit.show(frame)
        return self._cockpit.draw(frame)

    @property
    def path(self) -> list[tuple[float, float]]:
        """Time [s] and altitude [m] of the episode so far; kept if there is a render mode."""
        return self._path

    @property
    def cause(self) -> str | None:
        """Why the episode ended early, one of `task.CAUSES`; None while it goes on."""
        return self._cause

    @property
    def reward(self) -> float:
        """Reward of the last step."""
        return 1.0 + sum(self._terms) if self.steps else 0.0

    def close(self) -> None:
        """Closes the window, if there is one."""
        if self._cockpit is not None:
            self._cockpit.close()
            self._cockpit = None
