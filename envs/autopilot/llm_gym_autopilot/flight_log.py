"""Flies the episodes of an evaluation and keeps what the instruments showed."""

from __future__ import annotations

from typing import Any

import numpy as np

from llm_gym_autopilot import task
from llm_gym_autopilot.pilots import Pilot
from llm_gym_autopilot.telemetry import Telemetry
from llm_gym_autopilot.vector import AutopilotVectorEnv

__all__ = ["FlightLog", "fly_in_jsbsim", "fly_together"]

LOGGED = ("altitude_error_m", "airspeed_error_mps", "elevator_deg", "throttle")


class FlightLog:
    """What is kept of N flights; NaN behind an early end.

    Attributes:
        readings: Quantities of `LOGGED`, `(4, T + 1, N)`.
        rewards: `(T, N)`.
        causes: Causes of early ends.
        gusty: Whether there was turbulence, `(N,)`.
    """

    def __init__(self, episodes: int) -> None:
        steps = task.MAX_EPISODE_STEPS
        self.readings = np.full((len(LOGGED), steps + 1, episodes), np.nan)
        self.rewards = np.full((steps, episodes), np.nan)
        self.causes: list[str | None] = [None] * episodes
        self.gusty = np.zeros(episodes, dtype=np.bool_)

    def read(self, instruments: Telemetry, step: int, rows: Any) -> None:
        """Keeps what instruments of N flights, or of one, show.

        Args:
            instruments: Arrays `(N,)`, or floats.
            step: Index into `readings`.
            rows: Flights to keep it for: bool `(N,)`, or the index of the one.
        """
        for index, key in enumerate(LOGGED):
            values = np.asarray(getattr(instruments, key))
            self.readings[index, step, rows] = values[rows] if values.ndim else values


def fly_together(
    pilot: Pilot, aircraft: str, turbulence: str, episodes: int, seed: int, discrete: bool
) -> FlightLog:
    """Flies all episodes side by side, each once, in the vector environment.

    Args:
        pilot: Who flies.
        aircraft: Name of the aeroplane, as `aircraft=` takes it.
        turbulence: Level, or "mixed".
        episodes: Number of episodes N.
        seed: Seed of the first episode; the next ones follow.
        discrete: Whether the pilot clicks.

    Returns:
        What was flown.
    """
    env = AutopilotVectorEnv(episodes, aircraft, turbulence, discrete=discrete)
    log = FlightLog(episodes)
    observation, _ = env.reset(seed=seed)
    start = np.ones(episodes, dtype=np.bool_)
    flying = start.copy()
    log.read(env.telemetry(), 0, flying)
    state = None
    for step in range(1, task.MAX_EPISODE_STEPS + 1):
        action, state = pilot.predict(observation, state, start, deterministic=True)
        observation, reward, terminated, truncated, infos = env.step(action)
        log.rewards[step - 1, flying] = reward[flying]
        log.read(env.telemetry(), step, flying)
        start = terminated | truncated  # the environment starts these rows anew, unwatched
        for row in np.flatnonzero(start & flying).tolist():
            log.causes[row] = infos["cause"][row]
            log.gusty[row] = infos["turbulence"][row] != "none"
        flying &= ~start
        if not flying.any():
            break
    env.close()
    return log


def fly_in_jsbsim(
    pilot: Pilot, aircraft: str, turbulence: str, episodes: int, seed: int, discrete: bool
) -> FlightLog:
    """Flies one episode after the other in JSBSim.

    Arguments and result are those of `fly_together`.

    Raises:
        ImportError: JSBSim is not installed.
    """
    from llm_gym_autopilot.jsbsim_env import AutopilotJSBSimEnv

    env = AutopilotJSBSimEnv(aircraft, turbulence, discrete=discrete)
    log = FlightLog(episodes)
    for row in range(episodes):
        observation, info = env.reset(seed=seed + row)
        log.gusty[row] = info["turbulence"] != "none"
        log.read(env.telemetry(), 0, row)
        state, start = None, np.ones(1, dtype=np.bool_)
        for step in range(1, task.MAX_EPISODE_STEPS + 1):
            action, state = pilot.predict(observation, state, start, deterministic=True)
            start = np.zeros(1, dtype=np.bool_)
            observation, reward, terminated, _, info = env.step(action)
            log.rewards[step - 1, row] = reward
            log.read(env.telemetry(), step, row)
            if terminated:
                log.causes[row] = info["cause"]
                break
    env.close()
    return log
