"""A flight in JSBSim, step by step, in the terms of the fast environment.

JSBSim (LGPL-2.1) is a flight dynamics model in six degrees of freedom over a round, rotating Earth.
Every flight starts in a fresh `FGFDMExec`: a used one, initialised again, keeps traces of the
flight before and does not repeat a flight to the last bit; a fresh one does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from llm_gym_autopilot.aircraft import FEET
from llm_gym_autopilot.jsbsim_models import JSBSIM_AIRCRAFT, make_model
from llm_gym_autopilot.jsbsim_xml import NEWTONS_PER_POUND
from llm_gym_autopilot.start import Start
from llm_gym_autopilot.task import STEP_SECONDS

__all__ = ["Flown", "JSBSimFlight"]


class Flown(NamedTuple):
    """An aeroplane at the end of a step.

    Attributes:
        u: Velocity over the ground along body x, m/s.
        w: Velocity over the ground along body z, m/s.
        q: Pitch rate, rad/s.
        theta: Pitch angle, rad.
        altitude: Above sea level, m.
        power: Share of the largest, lagged.
        load_factor: Force along -z without gravity, in weights.
        thrust: N.
    """

    u: float
    w: float
    q: float
    theta: float
    altitude: float
    power: float
    load_factor: float
    thrust: float


def import_jsbsim() -> ModuleType:
    """The package `jsbsim`.

    Returns:
        The module.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import jsbsim
    except ImportError as error:
        raise ImportError(
            'flying in JSBSim needs jsbsim: pip install "llm-gym-autopilot[jsbsim]"'
        ) from error
    return jsbsim


@contextmanager
def quiet(jsbsim: ModuleType) -> Iterator[None]:
    """Keeps JSBSim's banner and reports off the standard output.

    A new FDM sets the level of the whole process from the environment, so what other users of
    JSBSim had set is put back.

    Args:
        jsbsim: The module.
    """
    base = jsbsim.FGJSBBase()
    level, variable = base.debug_lvl, os.environ.get("JSBSIM_DEBUG")
    os.environ["JSBSIM_DEBUG"] = "0"
    try:
        yield
    finally:
        base.debug_lvl = level
        del os.environ["JSBSIM_DEBUG"]
        if variable is not None:
            os.environ["JSBSIM_DEBUG"] = variable


class JSBSimFlight:
    """One aeroplane in JSBSim, flown step by step.

    Args:
        aircraft: "navion", or "c172p" for JSBSim's own model, unmodified.
        rate_hz: Frames of JSBSim per second.

    Attributes:
        limits: What the task knows of the aeroplane.
        elevator: Last command, rad, trailing edge down positive. After `start` it is the one that
            the flight begins with: for the c172p that of JSBSim's trim.
        throttle: Last command, 0 to 1, likewise.
        power: The throttle behind a lag of 1 s. It drives the Navion; the c172p's engine has no
            such quantity, and this only stands where its pilot would look for one.

    Raises:
        ImportError: Jsbsim is not installed.
        ValueError: There is no such aeroplane, or the rate is not positive.
    """

    def __init__(self, aircraft: str = "navion", rate_hz: int = 120) -> None:
        if aircraft not in JSBSIM_AIRCRAFT:
            names = ", ".join(JSBSIM_AIRCRAFT)
            raise ValueError(f"aircraft={aircraft!r} does not fly in JSBSim; choose one of {names}")
        if rate_hz <= 0:
            raise ValueError(f"rate_hz={rate_hz!r} must be positive")
        self.limits = JSBSIM_AIRCRAFT[aircraft]
        self.elevator = self.throttle = self.power = 0.0
        self._jsbsim = import_jsbsim()
        self._rate = rate_hz
        self._model = make_model(aircraft)
        self._power_kept = math.exp(-1.0 / (rate_hz * self._model.power_lag))
        self._fdm: Any = None

    @property
    def bank(self) -> float:
        """Bank angle, rad: small by the aileron loop; the c172p's engine torque moves it most."""
        if self._fdm is None:
            raise RuntimeError("call start() before bank")
        return float(self._fdm["attitude/phi-rad"])

    def start(self, start: Start) -> Flown:
        """Begins a flight in a fresh FDM.

        Args:
            start: State and commands. The Navion starts exactly there; the c172p takes airspeed and
                altitude and starts from JSBSim's trim, without perturbation.

        Returns:
            The state before the first step.

        Raises:
            RuntimeError: JSBSim cannot load the aeroplane.
            ValueError: The c172p cannot hold level flight there.
        """
        with quiet(self._jsbsim):
            fdm = self._jsbsim.FGFDMExec(None)
            # A refused model would go on flying, as a brick: load_model only returns False.
            if not self._model.load(fdm):
                raise RuntimeError(f"JSBSim could not load aircraft {self.limits.name!r}")
            fdm.disable_output()
            fdm.set_dt(1.0 / self._rate)
            self.elevator, self.throttle, self.power = self._model.start(fdm, start)
        self._fdm = fdm
        return self._read()

    def advance(
        self,
        elevator: float,
        throttle: float,
        gust_u: float = 0.0,
        gust_w: float = 0.0,
        seconds: float = STEP_SECONDS,
    ) -> Flown:
        """Flies on with commands and gusts held.

        Args:
            elevator: rad, trailing edge down positive.
            throttle: 0 to 1.
            gust_u: Velocity of the air along body x, m/s; it turns with the aeroplane.
            gust_w: Velocity of the air along body z, m/s.
            seconds: A multiple of the frame's length.

        Returns:
            The state afterwards.

        Raises:
            RuntimeError: The flight has not started, or JSBSim's state is no longer finite.
            ValueError: `seconds` is no whole number of frames.
        """
        if self._fdm is None:
            raise RuntimeError("call start() before advance()")
        fdm, model = self._fdm, self._model
        frames = round(seconds * self._rate)
        if not math.isclose(frames, seconds * self._rate):
            raise ValueError(
                f"seconds={seconds!r} must be a multiple of 1/{self._rate} s, one frame"
            )
        gusty = gust_u != 0.0 or gust_w != 0.0
        self.elevator, self.throttle = elevator, throttle
        model.set_controls(fdm, elevator, throttle)
        if not gusty:
            self._set_gust(0.0, 0.0)
        for _ in range(frames):
            self.power = throttle + (self.power - throttle) * self._power_kept
            model.set_frame(fdm, self.power)
            if gusty:
                self._set_gust(gust_u, gust_w)
            fdm.run()
        state = self._read()
        if not all(map(math.isfinite, state)):
            raise RuntimeError(f"JSBSim's state is no longer finite: {state}")
        return state

    def _set_gust(self, gust_u: float, gust_w: float) -> None:
        """Gusts along body x and z, turned into north, east and down by the present attitude."""
        fdm = self._fdm
        theta, phi = fdm["attitude/theta-rad"], fdm["attitude/phi-rad"]
        psi = fdm["attitude/psi-rad"]
        sin_theta, cos_theta = math.sin(theta), math.cos(theta)
        sin_phi, cos_phi = math.sin(phi), math.cos(phi)
        sin_psi, cos_psi = math.sin(psi), math.cos(psi)
        ahead = gust_u * cos_theta + gust_w * cos_phi * sin_theta  # horizontal, along the nose
        left = gust_w * sin_phi
        fdm["atmosphere/gust-north-fps"] = (ahead * cos_psi + left * sin_psi) / FEET
        fdm["atmosphere/gust-east-fps"] = (ahead * sin_psi - left * cos_psi) / FEET
        fdm["atmosphere/gust-down-fps"] = (gust_w * cos_phi * cos_theta - gust_u * sin_theta) / FEET

    def _read(self) -> Flown:
        fdm = self._fdm
        return Flown(
            u=fdm["velocities/u-fps"] * FEET,
            w=fdm["velocities/w-fps"] * FEET,
            q=fdm["velocities/q-rad_sec"],
            theta=fdm["attitude/theta-rad"],
            altitude=fdm["position/h-sl-ft"] * FEET,
            power=self.power,
            load_factor=fdm["accelerations/Nz"],
            thrust=fdm[self._model.thrust_property] * NEWTONS_PER_POUND,
        )
