"""Flights while they are flown, alone or side by side; how they went, also as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym_autopilot.metrics import control_movement, root_mean_square
from llm_gym_autopilot.rendering.formation import FormationFrame, Lane
from llm_gym_autopilot.rendering.frame import CockpitFrame
from llm_gym_autopilot.rendering.watchers import Watcher, show_to
from llm_gym_autopilot.task import STEP_SECONDS

if TYPE_CHECKING:
    from llm_gym_autopilot.flight_env import FlightEnv
    from llm_gym_autopilot.pilots import Pilot

__all__ = [
    "CTRL_C",
    "Flight",
    "FlightResult",
    "comparison_table",
    "fly_episode",
    "fly_side_by_side",
    "format_results",
]

CTRL_C, WINDOW_CLOSED = "Ctrl-C", "window closed"


@dataclass(frozen=True)
class FlightResult:
    """How one flight went.

    Attributes:
        seed: Seed of the flight.
        turbulence: Level of turbulence.
        seconds: Seconds flown.
        total: Return, the sum of the rewards.
        success: Whether the target was held during the last 15 s.
        cause: Why it ended early; None if it did not.
        finished: It was flown to its end, early or not.
        stopped: What somebody did to end the flights; None if nothing.
        altitude_rms_m: Root mean square of the altitude error over the last 30 s; NaN if the flight
            ended before its time.
        elevator_deg: Mean movement of the elevator a step, degrees.
    """

    seed: int
    turbulence: str
    seconds: float
    total: float
    success: bool
    cause: str | None
    finished: bool
    stopped: str | None
    altitude_rms_m: float
    elevator_deg: float


class Flight:
    """One flight, step by step.

    Args:
        env: `FlightEnv`, wrapped in a time limit; the flight begins with its reset.
        pilot: Who flies.
        seed: Seed of the episode.
        options: Options of the reset.

    Attributes:
        done: Whether it has ended.
        total: Sum of the rewards so far.
    """

    def __init__(self, env: Any, pilot: Pilot, seed: int, options: Mapping[str, float]) -> None:
        self._env, self._pilot, self._seed = env, pilot, seed
        self._flight: FlightEnv = env.unwrapped
        self._observation, self._info = env.reset(seed=seed, options=dict(options))
        self._start = np.ones(1, dtype=np.bool_)
        self._state: Any = None
        self._errors = [self._info["altitude_error_m"]]
        self._elevators = [self._info["elevator_deg"]]
        self._said: list[tuple[str, str]] = []
        self.done, self.total = False, 0.0

    def step(self) -> None:
        """Flies one decision."""
        from llm_gym_autopilot.pilots import SpokenPilot

        action, self._state = self._pilot.predict(
            self._observation, self._state, self._start, deterministic=True
        )
        self._start = np.zeros(1, dtype=np.bool_)
        self._observation, reward, terminated, truncated, self._info = self._env.step(action)
        self.done = bool(terminated or truncated)
        self.total += float(reward)
        self._errors.append(self._info["altitude_error_m"])
        self._elevators.append(self._info["elevator_deg"])
        if isinstance(self._pilot, SpokenPilot):
            self._said.append((self._pilot.heard[0], self._pilot.said[0]))

    @property
    def frame(self) -> CockpitFrame:
        """The present moment, with the words so far of a pilot of words."""
        return CockpitFrame.of(self._flight)._replace(words=self._said)

    def result(self, stopped: str | None) -> FlightResult:
        """How it went, as far as it went.

        Args:
            stopped: What somebody did to end it; None if nothing.
        """
        [rms] = root_mean_square(np.array(self._errors)[:, None])
        [moved] = control_movement(np.array(self._elevators)[:, None])
        cause = self._info["cause"]
        return FlightResult(
            seed=self._seed,
            turbulence=self._flight.turbulence_level,
            seconds=(len(self._errors) - 1) * STEP_SECONDS,
            total=self.total,
            success=bool(self._info["is_success"]) and self.done,
            cause=cause,
            finished=self.done,
            stopped=stopped,
            altitude_rms_m=rms if self.done and cause is None else math.nan,
            elevator_deg=moved if len(self._elevators) > 1 else 0.0,
        )


def fly_episode(
    env: Any,
    pilot: Pilot,
    seed: int,
    options: Mapping[str, float],
    watchers: list[Watcher[CockpitFrame]],
) -> FlightResult:
    """Flies one episode and shows every moment of it to the watchers.

    Args:
        env: `FlightEnv`, wrapped in a time limit.
        pilot: Who flies.
        seed: Seed of the episode.
        options: Options of the reset.
        watchers: Called with the reset's frame and each step's; one that returns False ends the
            flight, as Ctrl-C does.

    Returns:
        How it went, as far as it went.
    """
    flight = Flight(env, pilot, seed, options)
    stopped = None
    try:
        go_on = show_to(watchers, flight.frame)
        while go_on and not flight.done:
            flight.step()
            go_on = show_to(watchers, flight.frame)
        stopped = None if go_on else WINDOW_CLOSED
    except KeyboardInterrupt:
        stopped = CTRL_C
    return flight.result(stopped)


def fly_side_by_side(
    flown: Sequence[tuple[str, Any, Pilot]],
    seed: int,
    options: Mapping[str, float],
    watchers: list[Watcher[FormationFrame]],
) -> list[FlightResult]:
    """Flies the same episode with several pilots, each in an aeroplane of its own.

    Args:
        flown: Name, environment and pilot of each.
        seed: Of all: they begin alike, and meet the same gusts.
        options: Options of the reset.
        watchers: As those of `fly_episode`.

    Returns:
        How each flight went, as far as it went.
    """
    flights = [Flight(env, pilot, seed, options) for _, env, pilot in flown]
    names = [name for name, _, _ in flown]

    def show() -> bool:
        lanes = [
            Lane(name, flight.frame, flight.total)
            for name, flight in zip(names, flights, strict=True)
        ]
        return show_to(watchers, FormationFrame(lanes, seed))

    stopped = None
    try:
        go_on = show()
        while go_on and not all(flight.done for flight in flights):
            for flight in flights:
                if not flight.done:
                    flight.step()
            go_on = show()
        stopped = None if go_on else WINDOW_CLOSED
    except KeyboardInterrupt:
        stopped = CTRL_C
    return [flight.result(None if flight.done else stopped) for flight in flights]


# ---------------------------------------------------------------------- tables

_HEAD = ("seed", "turbulence", "seconds", "return", "success", "ended by", "altitude rms",
         "elevator")  # fmt: skip


def format_results(agent: str, results: Sequence[FlightResult]) -> str:
    """Flights as a table of plain text.

    Args:
        agent: Who flew.
        results: One a flight.

    Returns:
        Lines without a line end behind the last.
    """
    return "\n".join([f"agent {agent}", *_lines([_HEAD, *map(_row, results)])])


def comparison_table(flights: Sequence[tuple[str, FlightResult]]) -> str:
    """Flights of several agents as a table of plain text.

    Args:
        flights: Who flew, and how it went.

    Returns:
        Lines without a line end behind the last.
    """
    rows = [(name, *_row(result)) for name, result in flights]
    return "\n".join(_lines([("agent", *_HEAD), *rows]))


def _row(result: FlightResult) -> tuple[str, ...]:
    return (
        f"{result.seed}",
        result.turbulence,
        f"{result.seconds:.1f}",
        f"{result.total:.1f}",
        "yes" if result.success else "no",
        _ending(result),
        "-" if math.isnan(result.altitude_rms_m) else f"{result.altitude_rms_m:.1f} m",
        f"{result.elevator_deg:.2f} deg/step",
    )


def _lines(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _ending(flown: FlightResult) -> str:
    if flown.cause is not None:
        return flown.cause.replace("_", " ")
    return "time limit" if flown.finished else str(flown.stopped)
