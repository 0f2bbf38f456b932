"""Aeroplanes in JSBSim: the Navion that the fast environment flies, and JSBSim's own Cessna 172P.

Both fly due north, where the Coriolis force is sideways, and at the latitude at which gravity, less
what flying around the Earth takes from it, is nearest to the standard 9.80665 m/s^2 where we fly.
"""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llm_gym_autopilot.aircraft import AIRCRAFT, FEET, NAVION, Aircraft, AircraftLimits
from llm_gym_autopilot.jsbsim_xml import ROLL_GAIN, ROLL_RATE_GAIN, write_aircraft
from llm_gym_autopilot.start import Start

__all__ = [
    "C172P",
    "JSBSIM_AIRCRAFT",
    "CessnaModel",
    "GeneratedModel",
    "Limits",
    "Model",
    "make_model",
]

LATITUDE_DEG = 52.0
FULL_TRIM = 1  # of JSBSim's trim modes: all six axes, wings level


@dataclass(frozen=True)
class Limits:
    """What the task knows of an aeroplane whose coefficients are JSBSim's own.

    Attributes:
        name: As `aircraft=` takes it.
        reference_airspeed: m/s.
        elevator_limit: Elevator angle of the full stick, rad.
        stall_alpha: Angle of attack of maximum lift, rad.
        minimum_airspeed: m/s.
        maximum_airspeed: m/s.
        minimum_load_factor: In units of gravity.
        maximum_load_factor: In units of gravity.
    """

    name: str
    reference_airspeed: float
    elevator_limit: float
    stall_alpha: float
    minimum_airspeed: float
    maximum_airspeed: float
    minimum_load_factor: float
    maximum_load_factor: float


# The lift table of JSBSim's model peaks at 0.28 rad. The other limits are the Navion's, so that the
# same policy meets the same task.
C172P = Limits(
    name="c172p",
    reference_airspeed=NAVION.reference_airspeed,
    elevator_limit=NAVION.elevator_limit,
    stall_alpha=0.28,
    minimum_airspeed=NAVION.minimum_airspeed,
    maximum_airspeed=NAVION.maximum_airspeed,
    minimum_load_factor=NAVION.minimum_load_factor,
    maximum_load_factor=NAVION.maximum_load_factor,
)


class Model(Protocol):
    """What differs from one aeroplane to the other.

    Attributes:
        thrust_property: Where JSBSim keeps the thrust, in pounds.
        power_lag: Time constant of the power that the pilot is shown, s.
    """

    thrust_property: str
    power_lag: float

    def load(self, fdm: Any) -> bool:
        """Loads the aeroplane into an empty FDM; False where JSBSim refuses it."""

    def start(self, fdm: Any, start: Start) -> tuple[float, float, float]:
        """Puts the loaded aeroplane into the air; returns elevator, throttle and power."""

    def set_controls(self, fdm: Any, elevator: float, throttle: float) -> None:
        """Sets what stays as it is during a step."""

    def set_frame(self, fdm: Any, power: float) -> None:
        """Sets what changes from frame to frame."""


def generated_aircraft_folder() -> Path:
    """Folder with our aeroplanes for JSBSim, written once per process and removed at its end.

    Returns:
        What `set_aircraft_path` takes.
    """
    return _write_folder(os.getpid())


@functools.lru_cache(maxsize=1)
def _write_folder(pid: int) -> Path:
    folder = tempfile.TemporaryDirectory(prefix="llm_gym_autopilot_")

    def remove() -> None:
        # A forked child inherits this call, but the folder is still its parent's.
        if os.getpid() == pid:
            folder.cleanup()

    atexit.register(remove)
    for aircraft in AIRCRAFT.values():
        write_aircraft(aircraft, Path(folder.name))
    return Path(folder.name)


def _set_level_flight(fdm: Any, altitude: float) -> None:
    """Initial position and heading; angles and velocities come after the altitude."""
    fdm["ic/lat-geod-deg"] = LATITUDE_DEG
    fdm["ic/long-gc-deg"] = 0.0
    fdm["ic/psi-true-deg"] = 0.0
    fdm["ic/h-sl-ft"] = altitude / FEET


class GeneratedModel:
    """An aeroplane of ours, from the same table as in the fast environment.

    Args:
        aircraft: The table.
    """

    thrust_property = "external_reactions/thrust/magnitude"

    def __init__(self, aircraft: Aircraft) -> None:
        self.aircraft = aircraft
        self.power_lag = aircraft.power_lag

    def load(self, fdm: Any) -> bool:
        """Loads our XML."""
        fdm.set_aircraft_path(str(generated_aircraft_folder()))
        return fdm.load_model(self.aircraft.name)

    def start(self, fdm: Any, start: Start) -> tuple[float, float, float]:
        """Starts exactly from the state given."""
        elevator, throttle, power = map(float, (start.elevator, start.throttle, start.power))
        _set_level_flight(fdm, float(start.altitude))
        fdm["ic/theta-rad"] = float(start.theta)
        fdm["ic/u-fps"] = float(start.u) / FEET
        fdm["ic/v-fps"] = 0.0
        fdm["ic/w-fps"] = float(start.w) / FEET
        fdm["ic/q-rad_sec"] = float(start.q)
        self.set_controls(fdm, elevator, throttle)
        self.set_frame(fdm, power)
        fdm.run_ic()
        return elevator, throttle, power

    def set_controls(self, fdm: Any, elevator: float, throttle: float) -> None:
        """Sets the elevator."""
        fdm["fcs/elevator-cmd-rad"] = elevator

    def set_frame(self, fdm: Any, power: float) -> None:
        """Sets the lagged power."""
        fdm["fcs/engine-power"] = power


class CessnaModel:
    """JSBSim's c172p as it ships, trimmed by JSBSim itself.

    Its engine answers the throttle in its own way. The ailerons hold the wings level around the
    trimmed position; the rudder stays where the trim put it.
    """

    thrust_property = "propulsion/engine/thrust-lbs"
    power_lag = NAVION.power_lag  # its engine has none; a policy is shown what it is used to
    # Elevator [rad] per normalised command, trailing edge up and down: the ranges of -28 and 23
    # degrees of its flight controls, with their rounded factor.
    UP, DOWN = 28 * 0.01745, 23 * 0.01745

    def __init__(self) -> None:
        self._aileron = 0.0

    def load(self, fdm: Any) -> bool:
        """Loads the model of the installed package."""
        return fdm.load_model("c172p")

    def start(self, fdm: Any, start: Start) -> tuple[float, float, float]:
        """Starts in JSBSim's trim at the airspeed and altitude given; the rest is left aside."""
        airspeed, altitude = float(start.airspeed), float(start.altitude)
        _set_level_flight(fdm, altitude)
        fdm["ic/gamma-deg"] = 0.0
        fdm["ic/vt-fps"] = airspeed / FEET
        fdm["propulsion/magneto_cmd"] = 3
        fdm.run_ic()
        fdm["propulsion/set-running"] = -1  # sets the mixture to full rich
        # Leaned as a pilot would, to the mixture of sea level: full rich it drowns in thin air.
        fdm["fcs/mixture-cmd-norm"] = fdm["atmosphere/P-psf"] / fdm["atmosphere/P-sl-psf"]
        try:
            fdm.do_trim(FULL_TRIM)
        except RuntimeError as error:
            raise ValueError(
                f"JSBSim's c172p cannot fly level at airspeed={airspeed:g} m/s and "
                f"altitude={altitude:g} m; start slower or lower"
            ) from error
        elevator = fdm["fcs/elevator-pos-rad"]
        throttle = fdm["fcs/throttle-cmd-norm"]
        self._aileron = fdm["fcs/aileron-cmd-norm"]
        # From here the command alone gives the angle: the trim tab's share is in our elevator.
        fdm["fcs/pitch-trim-cmd-norm"] = 0.0
        self.set_controls(fdm, elevator, throttle)
        return elevator, throttle, throttle

    def set_controls(self, fdm: Any, elevator: float, throttle: float) -> None:
        """Sets elevator and throttle."""
        fdm["fcs/elevator-cmd-norm"] = elevator / (self.DOWN if elevator > 0 else self.UP)
        fdm["fcs/throttle-cmd-norm"] = throttle

    def set_frame(self, fdm: Any, power: float) -> None:
        """Holds the wings level."""
        loop = ROLL_GAIN * fdm["attitude/phi-rad"] + ROLL_RATE_GAIN * fdm["velocities/p-rad_sec"]
        fdm["fcs/aileron-cmd-norm"] = self._aileron + loop


# Task limits of every aeroplane that flies in JSBSim.
JSBSIM_AIRCRAFT: dict[str, AircraftLimits] = {**AIRCRAFT, "c172p": C172P}


def make_model(name: str) -> Model:
    """The model of an aeroplane.

    Args:
        name: A key of `JSBSIM_AIRCRAFT`.

    Returns:
        One for one flight after the other.
    """
    return GeneratedModel(AIRCRAFT[name]) if name in AIRCRAFT else CessnaModel()
