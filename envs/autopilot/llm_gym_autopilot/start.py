"""Where an episode starts: drawn from an aeroplane's own stream, or given by the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from llm_gym_autopilot import task
from llm_gym_autopilot.aircraft import Aircraft
from llm_gym_autopilot.noise import NoiseStream, NoiseStreams
from llm_gym_autopilot.trim import trim
from llm_gym_autopilot.turbulence import LEVELS, TRAINING_LEVELS

__all__ = ["Draw", "Start", "draw_start", "start_of"]


class Draw(NamedTuple):
    """An episode's beginning, before it is known which controls hold it.

    Attributes:
        airspeed: m/s.
        altitude: m.
        target_altitude: m.
        target_airspeed: m/s.
        level: Index of the turbulence level in `LEVELS`.
        pitch_offset: From the trimmed pitch angle, rad.
        alpha_offset: From the trimmed angle of attack, rad.
        q: Pitch rate, rad/s.
        gust_a: State of the longitudinal gust's filter.
        gust_b: First state of the vertical gust's filter.
        gust_c: Second state of it.
    """

    airspeed: Any
    altitude: Any
    target_altitude: Any
    target_airspeed: Any
    level: Any
    pitch_offset: Any
    alpha_offset: Any
    q: Any
    gust_a: Any
    gust_b: Any
    gust_c: Any


class Start(NamedTuple):
    """State and commands of an aeroplane at the beginning of an episode.

    Attributes:
        u: Inertial velocity along x, m/s.
        w: Inertial velocity along z, m/s.
        q: Pitch rate, rad/s.
        theta: Pitch angle, rad.
        altitude: m.
        power: Share of the largest.
        elevator: Last command, rad.
        throttle: Last command.
        airspeed: m/s, without gusts.
    """

    u: Any
    w: Any
    q: Any
    theta: Any
    altitude: Any
    power: Any
    elevator: Any
    throttle: Any
    airspeed: Any


def _between(low_high: tuple[float, float], share: Any) -> Any:
    low, high = low_high
    return low + (high - low) * share


def draw_start(
    noise: NoiseStream | NoiseStreams, turbulence: str, options: Mapping[str, Any]
) -> Draw:
    """Draws all that an episode starts with; what is given replaces what was drawn.

    Everything is drawn whatever is given, so that the rest of an episode does not depend on it.

    Args:
        noise: Stream of one aeroplane or streams of many; they move on.
        turbulence: A level, or "mixed" for one of the training levels at random.
        options: As `read_options` returns them.

    Returns:
        Numbers, or arrays of the streams' length.
    """
    airspeed = _between(task.START_AIRSPEED, noise.uniform())
    altitude = _between(task.START_ALTITUDE, noise.uniform())
    offset = _between(task.TARGET_OFFSET, noise.uniform())
    target_airspeed = _between(task.TARGET_AIRSPEED, noise.uniform())
    drawn_level = np.floor(noise.uniform() * len(TRAINING_LEVELS)).astype(np.intp)
    pitch, alpha = (np.array(n) for n in noise.normal_pair())
    q, gust_a = (np.array(n) for n in noise.normal_pair())
    gust_b, gust_c = (np.array(n) for n in noise.normal_pair())

    if "target_altitude" in options and "altitude" not in options:
        altitude = options["target_altitude"] - offset
    altitude = options.get("altitude", altitude)
    names = list(LEVELS)
    level = (
        np.full_like(drawn_level, names.index(turbulence)) if turbulence in names else drawn_level
    )
    unrest = 0.0 if options.get("trimmed") else 1.0
    return Draw(
        airspeed=options.get("airspeed", airspeed),
        altitude=altitude,
        target_altitude=options.get("target_altitude", altitude + offset),
        target_airspeed=options.get("target_airspeed", target_airspeed),
        level=options.get("turbulence", level),
        pitch_offset=unrest * task.PITCH_DEVIATION * pitch,
        alpha_offset=unrest * task.ALPHA_DEVIATION * alpha,
        q=options.get("q", unrest * task.PITCH_RATE_DEVIATION * q),
        gust_a=gust_a,
        gust_b=gust_b,
        gust_c=0.5 * (gust_b + gust_c),  # the filter's stationary distribution
    )


def start_of(aircraft: Aircraft, draw: Draw, options: Mapping[str, Any]) -> Start:
    """The state a draw means for an aeroplane: near its trim.

    Args:
        aircraft: The aeroplane.
        draw: From `draw_start`.
        options: As `read_options` returns them.

    Returns:
        Numbers or arrays, as in the draw.

    Raises:
        ValueError: A trimmed start was asked for where the engine cannot hold level flight.
    """
    controls = trim(aircraft, draw.airspeed, draw.altitude)
    if options.get("trimmed") and np.max(controls.throttle) > 1.0:
        speed, share = float(np.max(draw.airspeed)), 100 * float(np.max(controls.throttle))
        raise ValueError(
            f"options['trimmed']: level flight at airspeed={speed:g} m/s takes {share:.0f} % of "
            "the engine's power; start slower or lower"
        )
    alpha = options.get("alpha", controls.alpha + draw.alpha_offset)
    throttle = np.clip(controls.throttle, 0.0, 1.0)
    return Start(
        u=draw.airspeed * np.cos(alpha),
        w=draw.airspeed * np.sin(alpha),
        q=draw.q,
        theta=options.get("pitch", controls.alpha + draw.pitch_offset),
        altitude=draw.altitude,
        power=throttle,
        elevator=np.clip(controls.elevator, -aircraft.elevator_limit, aircraft.elevator_limit),
        throttle=throttle,
        airspeed=draw.airspeed,
    )
