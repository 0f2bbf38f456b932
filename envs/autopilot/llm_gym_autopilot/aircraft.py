"""The aeroplane as a table of numbers: published ones, and a few of our own.

The Navion is the general-aviation example of the flight-dynamics textbooks. Its stability
derivatives are those of Teper (NASA CR-96008, 1969), which Nelson prints in *Flight Stability and
Automatic Control*, table B.1, for level flight at 176 ft/s (53.6 m/s) at sea level. Angles of
attack and elevator angles are measured from that flight condition, as they are there.

Ours are the stall (maximum lift, what happens behind it), the thrust law and the limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "AIRCRAFT",
    "FEET",
    "GRAVITY",
    "NAVION",
    "SEA_LEVEL_DENSITY",
    "Aircraft",
    "AircraftLimits",
    "find_aircraft",
]

FEET = 0.3048  # m
POUND_MASS = 0.45359237  # kg
SLUG_FOOT_SQUARED = 1.3558179483314  # kg m^2
HORSEPOWER = 745.6998715822702  # W

GRAVITY = 9.80665  # m/s^2
SEA_LEVEL_DENSITY = 1.225  # kg/m^3, International Standard Atmosphere


class AircraftLimits(Protocol):
    """What the task has to know of an aeroplane, however it flies."""

    @property
    def name(self) -> str:
        """Name, as `aircraft=` takes it."""

    @property
    def reference_airspeed(self) -> float:
        """Speed the aeroplane is made for, m/s."""

    @property
    def elevator_limit(self) -> float:
        """Elevator angle of the full stick, rad."""

    @property
    def stall_alpha(self) -> float:
        """Angle of attack of maximum lift, rad."""

    @property
    def minimum_airspeed(self) -> float:
        """Speed below which an episode ends, m/s."""

    @property
    def maximum_airspeed(self) -> float:
        """Speed above which an episode ends, m/s."""

    @property
    def minimum_load_factor(self) -> float:
        """Loads factor below which an episode ends."""

    @property
    def maximum_load_factor(self) -> float:
        """Loads factor above which an episode ends."""


@dataclass(frozen=True)
class Aircraft:
    """Coefficients of an aeroplane's longitudinal motion, in SI units and per radian.

    Rate derivatives multiply the rate times `chord / (2 * airspeed)`. Angles are measured from the
    reference flight condition, in which angle of attack and elevator are zero.
    """

    name: str
    mass: float  # kg
    wing_area: float  # m^2
    wing_span: float  # m
    chord: float  # mean aerodynamic chord, m
    roll_inertia: float  # kg m^2
    pitch_inertia: float  # kg m^2
    yaw_inertia: float  # kg m^2
    reference_airspeed: float  # of the reference flight condition, m/s

    lift_zero: float  # CL0, at zero angle of attack
    lift_alpha: float  # CL_alpha
    lift_pitch_rate: float  # CL_q
    lift_elevator: float  # CL_delta_e
    drag_minimum: float  # CD of zero lift
    drag_induced: float  # K of CD = CD_min + K CL^2
    moment_alpha: float  # Cm_alpha
    moment_alpha_rate: float  # Cm_alpha_dot
    moment_pitch_rate: float  # Cm_q
    moment_elevator: float  # Cm_delta_e

    stall_alpha: float  # angle of attack of maximum lift, rad
    post_stall_lift: float  # slope of the lift behind it, 1/rad
    post_stall_drag: float  # slope of the drag added behind it, 1/rad

    power: float  # of the engine at sea level, W
    propeller_efficiency: float
    thrust_airspeed: float  # m/s; keeps the thrust finite when standing still
    power_lag: float  # time constant of the engine's power, s
    elevator_limit: float  # largest elevator angle of the stick, rad

    maximum_airspeed: float  # m/s; never exceed
    minimum_airspeed: float  # m/s
    minimum_load_factor: float  # in units of gravity
    maximum_load_factor: float

    @property
    def maximum_lift(self) -> float:
        """Lift coefficient at the stall."""
        return self.lift_zero + self.lift_alpha * self.stall_alpha


# The induced drag follows from the published CD and CD_alpha: K = CD_alpha / (2 CL0 CL_alpha).
_DRAG, _DRAG_ALPHA, _LIFT, _LIFT_ALPHA = 0.05, 0.33, 0.41, 4.44
_DRAG_INDUCED = _DRAG_ALPHA / (2 * _LIFT * _LIFT_ALPHA)

NAVION = Aircraft(
    name="navion",
    mass=2750 * POUND_MASS,
    wing_area=184 * FEET**2,
    wing_span=33.4 * FEET,
    chord=5.7 * FEET,
    roll_inertia=1048 * SLUG_FOOT_SQUARED,
    pitch_inertia=3000 * SLUG_FOOT_SQUARED,
    yaw_inertia=3530 * SLUG_FOOT_SQUARED,
    reference_airspeed=176 * FEET,
    lift_zero=_LIFT,
    lift_alpha=_LIFT_ALPHA,
    lift_pitch_rate=3.8,
    lift_elevator=0.355,
    drag_minimum=_DRAG - _DRAG_INDUCED * _LIFT**2,
    drag_induced=_DRAG_INDUCED,
    moment_alpha=-0.683,
    moment_alpha_rate=-4.36,
    moment_pitch_rate=-9.96,
    moment_elevator=-0.923,
    stall_alpha=(1.45 - _LIFT) / _LIFT_ALPHA,
    post_stall_lift=-1.5,
    post_stall_drag=0.4,
    power=260 * HORSEPOWER,
    propeller_efficiency=0.8,
    thrust_airspeed=100 * FEET,
    power_lag=1.0,
    elevator_limit=0.17,
    maximum_airspeed=85.0,
    minimum_airspeed=24.0,
    minimum_load_factor=-1.52,
    maximum_load_factor=3.8,
)

AIRCRAFT = {"navion": NAVION}


def find_aircraft(name: str) -> Aircraft:
    """The coefficient table of an aeroplane.

    Args:
        name: A key of `AIRCRAFT`.

    Returns:
        The table.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in AIRCRAFT:
        hint = ' (the c172p flies in "llm_gym/AutopilotJSBSim-v0")' if name == "c172p" else ""
        raise ValueError(f"aircraft={name!r} must be one of {', '.join(AIRCRAFT)}{hint}")
    return AIRCRAFT[name]
