"""`llm-gym fly`: watch a pilot fly, in a window, in a film, or as lines of instruments."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_gym_autopilot.checkpoints import pilots_of_run
from llm_gym_autopilot.flown import (
    CTRL_C,
    FlightResult,
    comparison_table,
    fly_episode,
    fly_side_by_side,
    format_results,
)
from llm_gym_autopilot.rendering import Cockpit, Recorder
from llm_gym_autopilot.rendering.formation import MOST_LANES, Formation, formation_line
from llm_gym_autopilot.rendering.watchers import (
    STEPS_PER_SECOND,
    cockpit_lines,
    has_display,
    watching,
)

if TYPE_CHECKING:
    from llm_gym_autopilot.pilots import Pilot

__all__ = ["fly"]

INTERRUPTED = 130


def fly(
    agent: Annotated[
        str | None,
        typer.Option(
            help="rule, tuned-rule, pid, lqr, ppo, trim, random, a trained .npz, or the directory "
            "of a language model.",
            show_default="ppo",
        ),
    ] = None,
    agents: Annotated[
        str | None,
        typer.Option(help=f"Several, with commas between: side by side, at most {MOST_LANES}."),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(help="Directory of a training run: what it could do, and when, side by side."),
    ] = None,
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
    """Watches agents fly the aeroplane: in a window, on film, or as lines of instruments.

    Several fly side by side, from the same start to the same targets through the same gusts.

    Ctrl-C, or closing the window, ends the flight; a film keeps what was flown.
    """
    if episodes < 1:
        raise ValueError(f"--episodes={episodes} must be at least 1")
    if seed < 0:
        raise ValueError(f"--seed={seed} must not be negative")
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError(f"--speed={speed} must be a positive number; 1 is real time")
    names = _names(agent, agents, checkpoints)

    film = None if record is None else Recorder(record, fps=STEPS_PER_SECOND * speed)
    window = human if human is not None else record is None and has_display()
    if not window and film is None and human is None:
        _say("no display; reading the instruments once a second (a film: --record flight.gif)")
    targets = {"target_altitude": target_altitude, "target_airspeed": target_airspeed}
    options = {name: value for name, value in targets.items() if value is not None}
    seeds = range(seed, seed + episodes)

    with ExitStack() as stack:
        flown = []
        for name, source in names.items():
            pilot = _pilot(source, words=words)
            discrete = bool(getattr(pilot, "discrete", False))
            env = _make(jsbsim, aircraft, turbulence, discrete=discrete)
            stack.callback(env.close)
            flown.append((name, env, pilot))
        if len(flown) == 1:
            results = _fly_alone(flown[0], seeds, options, (film, window, speed))
        else:
            results = _fly_together(flown, seeds, options, (film, window, speed))
    alone = len(flown) == 1
    print(
        format_results(flown[0][0], [result for _, result in results])
        if alone
        else comparison_table(results)
    )
    if film is not None and film.num_frames:
        print(f"film: {film.path} ({film.num_frames} pictures, {film.megabytes:.1f} MB)")
    if any(result.stopped == CTRL_C for _, result in results):
        raise SystemExit(INTERRUPTED)


_Flown = tuple[str, Any, "Pilot"]
_Shown = tuple[Recorder | None, bool, float]  # film, window, speed
_Results = list[tuple[str, FlightResult]]


def _fly_alone(
    flown: _Flown, seeds: range, options: Mapping[str, float], shown: _Shown
) -> _Results:
    name, env, pilot = flown
    results: _Results = []
    with watching(*shown, Cockpit, cockpit_lines) as watchers:
        for seed in seeds:
            results.append((name, fly_episode(env, pilot, seed, options, watchers)))
            if results[-1][1].stopped:
                break
    return results


def _fly_together(
    flown: list[_Flown], seeds: range, options: Mapping[str, float], shown: _Shown
) -> _Results:
    results: _Results = []
    with watching(*shown, lambda: Formation(len(flown)), formation_line) as watchers:
        for seed in seeds:
            flights = fly_side_by_side(flown, seed, options, watchers)
            results += zip((name for name, _, _ in flown), flights, strict=True)
            if any(flight.stopped for flight in flights):
                break
    return results


# ---------------------------------------------------------------------- what is set up


def _names(
    agent: str | None, agents: str | None, checkpoints: Path | None
) -> dict[str, str | Path]:
    """Who flies, by the name that is shown."""
    given = {"--agent": agent, "--agents": agents, "--checkpoints": checkpoints}
    told = [option for option, value in given.items() if value is not None]
    if len(told) > 1:
        raise ValueError(f"{' and '.join(told)} exclude each other: they say who flies")
    if checkpoints is not None:
        return dict(pilots_of_run(checkpoints, MOST_LANES, _say))
    if agent == "":
        raise ValueError("--agent='' is nobody; name one, such as ppo, or leave it out")
    if agents is None:
        return {agent or "ppo": agent or "ppo"}
    several = [name.strip() for name in agents.split(",")]
    if not 2 <= len(several) <= MOST_LANES or len(set(several)) < len(several) or "" in several:
        raise ValueError(
            f"--agents={agents!r} must be 2 to {MOST_LANES} different agents with commas between, "
            "such as rule,pid,ppo"
        )
    return {name: name for name in several}


def _pilot(source: str | Path, *, words: bool) -> Pilot:
    from llm_gym_autopilot.pilots import SpokenPilot, Translated, load_pilot

    pilot = load_pilot(source)
    if words and not isinstance(pilot, SpokenPilot):
        return SpokenPilot(Translated(pilot))
    return pilot


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
