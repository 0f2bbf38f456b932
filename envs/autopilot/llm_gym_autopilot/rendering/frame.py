"""What one picture of the cockpit shows: values only, so that anybody's flight can be drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from llm_gym_autopilot.aircraft import GRAVITY, SEA_LEVEL_DENSITY, Aircraft, AircraftLimits
from llm_gym_autopilot.dynamics import density_ratio
from llm_gym_autopilot.task import STEP_SECONDS
from llm_gym_autopilot.telemetry import Telemetry

__all__ = ["CockpitFrame", "CockpitLimits", "Flight", "stall_airspeed"]


class Flight(Protocol):
    """What has to be known of a flight to show it; `FlightEnv` has all of it."""

    aircraft: AircraftLimits
    steps: int

    @property
    def path(self) -> Sequence[tuple[float, float]]:
        """Time [s] and altitude [m] of the running episode so far."""

    @property
    def reward(self) -> float:
        """Reward of the last step."""

    @property
    def turbulence_level(self) -> str:
        """Turbulence of the running episode."""

    @property
    def cause(self) -> str | None:
        """Why the episode has ended, None while it goes on."""

    def telemetry(self) -> Telemetry:
        """What the instruments show now."""


class CockpitLimits(NamedTuple):
    """Marks on the instruments.

    Attributes:
        stall_airspeed_mps: Stall airspeed mps of level flight at the present altitude.
        minimum_airspeed_mps: Below it an episode ends.
        maximum_airspeed_mps: Above it an episode ends.
        stall_alpha_deg: Angle of attack of maximum lift.
        elevator_limit_deg: Elevator angle of the full stick.
    """

    stall_airspeed_mps: float
    minimum_airspeed_mps: float
    maximum_airspeed_mps: float
    stall_alpha_deg: float
    elevator_limit_deg: float

    @classmethod
    def of(cls, aircraft: AircraftLimits, altitude: float) -> CockpitLimits:
        """The marks for an aeroplane.

        Args:
            aircraft: The aeroplane.
            altitude: Where it is, m.
        """
        return cls(
            stall_airspeed_mps=stall_airspeed(aircraft, altitude),
            minimum_airspeed_mps=aircraft.minimum_airspeed,
            maximum_airspeed_mps=aircraft.maximum_airspeed,
            stall_alpha_deg=math.degrees(aircraft.stall_alpha),
            elevator_limit_deg=math.degrees(aircraft.elevator_limit),
        )


class CockpitFrame(NamedTuple):
    """Everything one picture or one line of instruments shows.

    Attributes:
        telemetry: Telemetry of one aeroplane, floats.
        path: Times [s] and altitudes [m] flown, oldest first.
        turbulence: Level of the episode.
        time_s: Since the beginning of the episode.
        reward: Reward of the last step; None where it is not known.
        limits: Marks on the instruments.
        cause: Why the episode has ended; None while it goes on.
        words: What the instruments said and what a pilot of words answered, oldest first.
    """

    telemetry: Telemetry
    path: Sequence[tuple[float, float]]
    turbulence: str
    time_s: float
    reward: float | None
    limits: CockpitLimits
    cause: str | None = None
    words: Sequence[tuple[str, str]] = ()

    @classmethod
    def at(
        cls,
        telemetry: Telemetry,
        *,
        limits: AircraftLimits,
        turbulence: str,
        time_s: float,
        path: Sequence[tuple[float, float]] = (),
        reward: float | None = None,
        cause: str | None = None,
    ) -> CockpitFrame:
        """One moment of any aeroplane, such as a row of the vector environment.

        Args:
            telemetry: Telemetry of one aeroplane, floats.
            limits: The aeroplane.
            turbulence: Level of the episode.
            time_s: Since the beginning of the episode.
            path: Times [s] and altitudes [m] flown, oldest first.
            reward: Reward of the last step; None leaves it out.
            cause: Why the episode has ended; None while it goes on.
        """
        marks = CockpitLimits.of(limits, float(telemetry.altitude_m))
        return cls(telemetry, path, turbulence, time_s, reward, marks, cause)

    @classmethod
    def of(cls, flight: Flight) -> CockpitFrame:
        """The present moment of a flight.

        Args:
            flight: An environment with one aeroplane, unwrapped.

        Returns:
            Its values; the path is the flight's own list, not a copy.
        """
        return cls.at(
            flight.telemetry(),
            limits=flight.aircraft,
            turbulence=flight.turbulence_level,
            time_s=flight.steps * STEP_SECONDS,
            path=flight.path,
            reward=flight.reward,
            cause=flight.cause,
        )


def stall_airspeed(aircraft: AircraftLimits, altitude: float) -> float:
    """Airspeed at which level flight takes the maximum lift, m/s.

    Args:
        aircraft: The aeroplane; without coefficients its lowest permitted airspeed is returned.
        altitude: m above sea level.

    Returns:
        The airspeed.
    """
    if not isinstance(aircraft, Aircraft):
        return aircraft.minimum_airspeed
    density = SEA_LEVEL_DENSITY * float(density_ratio(altitude))
    lift_area = aircraft.maximum_lift * aircraft.wing_area
    return math.sqrt(2 * aircraft.mass * GRAVITY / (density * lift_area))
