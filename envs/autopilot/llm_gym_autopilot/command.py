"""`llm-gym fly`: watch a pilot fly, in a window, in a film, or as lines of instruments."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from llm_gym_autopilot.metrics import control_movement, root_mean_square
from llm_gym_autopilot.rendering import CockpitFrame, Recorder
from llm_gym_autopilot.rendering.watchers import (
    STEPS_PER_SECOND,
    Watcher,
    has_display,
    show_to,
    watching,
)

if TYPE_CHECKING:
    from llm_gym_autopilot.flight_env import FlightEnv
    from llm_gym_autopilot.pilots import Pilot

__all__ = ["FlightResult", "fly", "fly_episode"]

INTERRUPTED = 130
CTRL_C, WINDOW_CLOSED = "Ctrl-C", "window closed"


def fly(
    agent: Annotated[
        str,
        typer.Option(
            help="rule, tuned-rule, pid, lqr, ppo, trim, random, a trained .npz, or the directory "
            "of a language model."
        ),
    ] = "ppo",
    words: Annotated[
        bool, typer.Option("--words", help="The agent hears and says words, as a language model.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(help="Film the flight: a .gif or .mp4 to write.")
    ] = None,
    jsbsim: Annotated[bool, typer.Option("--jsbsim", help="Fly in JSBSim.")] = False,
    aircraft: Annotated[str, typer.Option(help="navion, or c172p (with --jsbsim).")] = "navion",
    turbulence: Annotated[
        str, typer.Option(help="none, light, moderate, severe or mixed.")
    ] = "mixed",
    seed: Annotated[int, typer.Option(help="Seed of the first flight; the next adds 1.")] = 0,
    episodes: Annotated[int, typer.Option(help="Flights, one after the other.")] = 1,
    target_altitude: Annotated[
        float | None, typer.Option(help="Altitude to fly at, m.", show_default="random")
    ] = None,
    target_airspeed: Annotated[
        float | None, typer.Option(help="Airspeed to fly at, m/s.", show_default="random")
    ] = None,
    human: Annotated[
        bool | None,
        typer.Option(
            "--human/--headless",
            help="With or without a window.",
            show_default="with, if there is a display and no film is made",
        ),
    ] = None,
    speed: Annotated[float, typer.Option(help="Pace of window and film: 1 is real time.")] = 1.0,
) -> None:
    """Watches an agent fly the aeroplane: in a window, on film, or as lines of instruments.

    Ctrl-C, or closing the window, ends the flight; a film keeps what was flown.
    """
    if episodes < 1:
        raise ValueError(f"--episodes={episodes} must be at least 1")
    if seed < 0:
        raise ValueError(f"--seed={seed} must not be negative")
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError(f"--speed={speed} must be a positive number; 1 is real time")
    from llm_gym_autopilot.pilots import SpokenPilot, Translated, load_pilot

    film = None if record is None else Recorder(record, fps=STEPS_PER_SECOND * speed)
    window = human if human is not None else record is None and has_display()
    if not window and film is None and human is None:
        _say("no display; reading the instruments once a second (a film: --record flight.gif)")
    pilot = load_pilot(agent)
    if words and not isinstance(pilot, SpokenPilot):
        pilot = SpokenPilot(Translated(pilot))
    env = _make(jsbsim, aircraft, turbulence, discrete=bool(getattr(pilot, "discrete", False)))
    targets = {"target_altitude": target_altitude, "target_airspeed": target_airspeed}
    options = {name: value for name, value in targets.items() if value is not None}

    results: list[FlightResult] = []
    try:
        with watching(film, window, speed) as watchers:
            for episode in range(episodes):
                results.append(fly_episode(env, pilot, seed + episode, options, watchers))
                if results[-1].stopped:
                    break
    finally:
        env.close()
    print(format_results(agent, results))
    if film is not None and film.num_frames:
        print(f"film: {film.path} ({film.num_frames} pictures, {film.megabytes:.1f} MB)")
    if results[-1].stopped == CTRL_C:
        raise SystemExit(INTERRUPTED)


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


def fly_episode(
    env: Any,
    pilot: Pilot,
    seed: int,
    options: Mapping[str, float],
    watchers: list[Watcher],
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
    from llm_gym_autopilot.pilots import SpokenPilot

    flight: FlightEnv = env.unwrapped
    observation, info = env.reset(seed=seed, options=dict(options))
    start = np.ones(1, dtype=np.bool_)
    state: Any = None
    total, errors, elevators = 0.0, [info["altitude_error_m"]], [info["elevator_deg"]]
    done, stopped = False, None
    said: list[tuple[str, str]] = []
    try:
        go_on = show_to(watchers, CockpitFrame.of(flight))
        while go_on and not done:
            action, state = pilot.predict(observation, state, start, deterministic=True)
            start = np.zeros(1, dtype=np.bool_)
            observation, reward, terminated, truncated, info = env.step(action)
            done = terminated or truncated
            total += float(reward)
            errors.append(info["altitude_error_m"])
            elevators.append(info["elevator_deg"])
            if isinstance(pilot, SpokenPilot):
                said.append((pilot.heard[0], pilot.said[0]))
            go_on = show_to(watchers, CockpitFrame.of(flight)._replace(words=said))
        stopped = None if go_on else WINDOW_CLOSED
    except KeyboardInterrupt:
        stopped = CTRL_C
    [rms] = root_mean_square(np.array(errors)[:, None])
    [moved] = control_movement(np.array(elevators)[:, None])
    return FlightResult(
        seed=seed,
        turbulence=flight.turbulence_level,
        seconds=(len(errors) - 1) / STEPS_PER_SECOND,
        total=total,
        success=bool(info["is_success"]) and done,
        cause=info["cause"],
        finished=done,
        stopped=stopped,
        altitude_rms_m=rms if done and info["cause"] is None else math.nan,
        elevator_deg=moved if len(elevators) > 1 else 0.0,
    )


def format_results(agent: str, results: list[FlightResult]) -> str:
    """Flights as a table of plain text.

    Args:
        agent: Who flew.
        results: One a flight.

    Returns:
        Lines without a line end behind the last.
    """
    head = (
        "seed",
        "turbulence",
        "seconds",
        "return",
        "success",
        "ended by",
        "altitude rms",
        "elevator",
    )
    rows = [
        (
            f"{result.seed}",
            result.turbulence,
            f"{result.seconds:.1f}",
            f"{result.total:.1f}",
            "yes" if result.success else "no",
            _ending(result),
            "-" if math.isnan(result.altitude_rms_m) else f"{result.altitude_rms_m:.1f} m",
            f"{result.elevator_deg:.2f} deg/step",
        )
        for result in results
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([f"agent {agent}", *lines])


def _ending(flown: FlightResult) -> str:
    if flown.cause is not None:
        return flown.cause.replace("_", " ")
    return "time limit" if flown.finished else str(flown.stopped)


# ---------------------------------------------------------------------- what is set up


def _make(jsbsim: bool, aircraft: str, turbulence: str, *, discrete: bool) -> Any:
    import gymnasium as gym

    import llm_gym_autopilot  # noqa: F401 -- registers the environments

    if aircraft == "c172p" and not jsbsim:
        raise ValueError("--aircraft=c172p flies in JSBSim only: add --jsbsim")
    name = "Autopilot" + ("JSBSim" if jsbsim else "") + ("Discrete" if discrete else "")
    return gym.make(
        f"llm_gym/{name}-v0",
        aircraft=aircraft,
        turbulence=turbulence,
        render_mode="rgb_array",  # so that the environment remembers the path it flew
        disable_env_checker=True,
    )


def _say(text: str) -> None:
    print(f"llm-gym: {text}", file=sys.stderr)
