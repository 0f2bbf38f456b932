"""The task around one aeroplane, in Python floats; the aeroplane itself is a subclass's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from llm_gym_autopilot import task
from llm_gym_autopilot.aircraft import Aircraft, AircraftLimits
from llm_gym_autopilot.flight_display import FlightDisplay
from llm_gym_autopilot.noise import NoiseStream, stream_starts
from llm_gym_autopilot.options import check_turbulence, read_options
from llm_gym_autopilot.start import Start, draw_start, start_of
from llm_gym_autopilot.task import STEP_SECONDS
from llm_gym_autopilot.turbulence import LEVELS, MIXED, DrydenFilter

__all__ = ["FlightEnv"]

_DEVIATIONS = tuple(LEVELS.values())
_BANDS = (  # in still air and in gusts
    (task.ALTITUDE_BAND, task.AIRSPEED_BAND),
    (task.ALTITUDE_BAND_GUSTS, task.AIRSPEED_BAND_GUSTS),
)
_HISTORY = (1 << task.HOLD_STEPS) - 1
_HIGH = task.OBSERVATION_BOUNDS
_LOW = -_HIGH
# The other four entries cannot leave their bounds: they are commands, power and a target.
_CUT_ALTITUDE, _CUT_CLIMB, _CUT_AIRSPEED, _CUT_SPEED, _CUT_ALPHA, _CUT_RATE, _CUT_PITCH = _HIGH[
    :7
].tolist()


class FlightEnv(FlightDisplay):
    """The task around an aeroplane; a subclass supplies the aeroplane.

    It flies by `_start_flight` and `_fly`, which set `_u`, `_w`, `_q`, `_theta`, `_altitude`,
    `_power`, `_load_factor` and `_thrust` (floats; body axes, SI units, radians). `FlightState`
    keeps and restores a flight, `FlightDisplay` tells and shows it.

    Args:
        limits: What the task has to know of the aeroplane.
        coefficients: Its table, from which episodes start trimmed; None if the aeroplane trims
            itself.
        turbulence: A level, or "mixed".
        render_mode: "human", "rgb_array", "ansi" or None.
        discrete: Clicks instead of stick and throttle.

    Attributes:
        aircraft: The aeroplane's limits.
        steps: Steps of the running episode.
    """

    def __init__(
        self,
        limits: AircraftLimits,
        coefficients: Aircraft | None,
        turbulence: str,
        render_mode: str | None,
        *,
        discrete: bool,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            modes = ", ".join(self.metadata["render_modes"])
            raise ValueError(f"render_mode={render_mode!r} must be one of {modes}, or None")
        self.aircraft = limits
        self.turbulence = check_turbulence(turbulence, (*LEVELS, MIXED))
        self.render_mode = render_mode
        self.observation_space: Any = task.observation_space()
        self.action_space: Any = task.action_space(discrete)
        self.steps = 0
        self._discrete = discrete
        self._coefficients = coefficients
        self._filter = DrydenFilter(limits.reference_airspeed, STEP_SECONDS)
        self._noise = None
        self._start_noise = NoiseStream(0)
        self._running = False
        self._cause = None
        self._terms = (0.0, 0.0, 0.0)
        self._path = []

    # ------------------------------------------------------------------ the aeroplane

    def _start_flight(self, start: Start) -> None:
        raise NotImplementedError

    def _fly(self, elevator: float, throttle: float, gust_u: float, gust_w: float) -> None:
        raise NotImplementedError

    # ------------------------------------------------------------------ reset and step

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Fixes all that is random from here on.
            options: `altitude`, `target_altitude` [m], `airspeed`, `target_airspeed` [m/s],
                `pitch`, `alpha` [rad], `q` [rad/s], `turbulence` (a level), `trimmed` (True:
                exactly in trim); or `state`, from `get_state`. What is not given is drawn.

        Returns:
            Observation float32 `(11,)` and info.

        Raises:
            ValueError: An unknown option, or a value outside the flight envelope.
            TypeError: An option of the wrong type.
        """
        super().reset(seed=seed)
        checked = read_options(options, self.aircraft)
        if seed is not None or self._noise is None:
            known = self.np_random_seed
            if known < 0:  # the caller set a generator of his own
                known = int(self.np_random.integers(2**63))
            self._start_noise, self._noise = map(NoiseStream, stream_starts(known))
        if "state" in checked:
            self.set_state(checked["state"])
        else:
            self._begin(checked)
        observation = self._observe()
        if self.render_mode == "human":
            self.render()
        return observation, self._info()

    def _begin(self, options: Mapping[str, Any]) -> None:
        draw = draw_start(self._start_noise, self.turbulence, options)
        if self._coefficients is None:
            start = Start(draw.airspeed, 0.0, 0.0, 0.0, draw.altitude, 0.0, 0.0, 0.0, draw.airspeed)
        else:
            start = start_of(self._coefficients, draw, options)
        start = Start(*(float(value) for value in start))
        self._target_altitude = float(draw.target_altitude)
        self._target_airspeed = float(draw.target_airspeed)
        self._level = int(draw.level)
        self._elevator, self._throttle = start.elevator, start.throttle
        self._gust_a, self._gust_b = float(draw.gust_a), float(draw.gust_b)
        self._gust_c = float(draw.gust_c)
        self._set_gusts()
        self._held_altitude = self._held_airspeed = 0
        self.steps = 0
        self._cause, self._terms = None, (0.0, 0.0, 0.0)
        self._start_flight(start)
        self._path = [(0.0, self._altitude)]
        self._running = True

    def _set_gusts(self) -> None:
        deviation, gusts = _DEVIATIONS[self._level], self._filter
        self._gust_u = deviation * self._gust_a
        self._gust_w = deviation * (gusts.weight_b * self._gust_b + gusts.weight_c * self._gust_c)

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Flies for 0.2 s.

        Args:
            action: Stick and throttle lever, `(2,)` from -1 to 1 (cut off beyond); or a number from
                0 to 8 in the discrete environment.

        Returns:
            Observation float32 `(11,)`, reward from 0 to 1, terminated, truncated (always False: a
            time limit is a wrapper's), info.

        Raises:
            ResetNeeded: No episode is running.
            ValueError: An action of the wrong shape, not finite, or outside the discrete space.
        """
        if not self._running:
            raise ResetNeeded("call reset() before step(): no episode is running")
        elevator, throttle = self._commands(action)
        elevator_move, throttle_move = elevator - self._elevator, throttle - self._throttle
        self._elevator, self._throttle = elevator, throttle
        self._blow()
        self._fly(elevator, throttle, self._gust_u, self._gust_w)
        self.steps += 1
        if self.render_mode is not None:
            self._path.append((self.steps * STEP_SECONDS, self._altitude))

        observation = self._observe()
        altitude_error, airspeed_error = self._altitude_error, self._airspeed_error
        off_altitude, off_airspeed = abs(altitude_error), abs(airspeed_error)
        unrest = abs(elevator_move) / task.ELEVATOR_MOVE + abs(throttle_move) / task.THROTTLE_MOVE
        altitude_term = -task.ALTITUDE_WEIGHT * off_altitude / (off_altitude + task.ALTITUDE_HALF)
        airspeed_term = -task.AIRSPEED_WEIGHT * off_airspeed / (off_airspeed + task.AIRSPEED_HALF)
        unrest_term = -task.SMOOTHNESS_WEIGHT * (unrest if unrest < 1.0 else 1.0)
        self._terms = altitude_term, airspeed_term, unrest_term
        altitude_band, airspeed_band = _BANDS[self._level > 0]
        held = off_altitude < altitude_band
        self._held_altitude = ((self._held_altitude << 1) | held) & _HISTORY
        held = off_airspeed < airspeed_band
        self._held_airspeed = ((self._held_airspeed << 1) | held) & _HISTORY
        self._cause = self._find_cause()
        terminated = self._cause is not None
        self._running = not terminated
        if self.render_mode == "human":
            self.render()
        reward = 1.0 + altitude_term + airspeed_term + unrest_term
        return observation, reward, terminated, False, self._info()

    def _commands(self, action: Any) -> tuple[float, float]:
        limit = self.aircraft.elevator_limit
        if self._discrete:
            if not self.action_space.contains(action):
                raise ValueError(
                    f"action={action!r} must be an integer from 0 to {task.NUM_ACTIONS - 1}"
                )
            clicks = int(action)
            elevator = self._elevator - task.ELEVATOR_CLICK * (clicks // 3 - 1)
            throttle = self._throttle + task.THROTTLE_CLICK * (clicks % 3 - 1)
            return min(max(elevator, -limit), limit), min(max(throttle, 0.0), 1.0)
        stick, lever = _stick_and_lever(action)
        stick = -1.0 if stick < -1.0 else 1.0 if stick > 1.0 else stick
        lever = -1.0 if lever < -1.0 else 1.0 if lever > 1.0 else lever
        return -limit * stick, (lever + 1.0) / 2

    def _blow(self) -> None:
        """The next gust."""
        assert self._noise is not None
        gusts = self._filter
        first, second = self._noise.normal_pair()
        self._gust_a = gusts.decay * self._gust_a + gusts.drive * first
        self._gust_c = (
            gusts.decay * self._gust_c + gusts.feed * self._gust_b + gusts.cross_drive * second
        )
        self._gust_b = gusts.decay * self._gust_b + gusts.drive * second
        self._set_gusts()

    def _observe(self) -> NDArray[np.float32]:
        """The observation; keeps what it derives for reward, ends and instruments."""
        u, w, theta = self._u, self._w, self._theta
        ua, wa = u - self._gust_u, w - self._gust_w
        airspeed = math.sqrt(ua * ua + wa * wa)
        self._airspeed = airspeed
        self._alpha = alpha = math.atan2(wa, ua)
        self._climb = climb = u * math.sin(theta) - w * math.cos(theta)
        self._altitude_error = altitude_error = self._target_altitude - self._altitude
        self._airspeed_error = airspeed_error = self._target_airspeed - airspeed
        raw = (
            altitude_error / task.ALTITUDE_SCALE,
            climb / task.CLIMB_SCALE,
            airspeed_error / task.AIRSPEED_ERROR_SCALE,
            (airspeed - task.CENTRE_AIRSPEED) / task.AIRSPEED_SCALE,
            alpha / task.ALPHA_SCALE,
            self._q / task.PITCH_RATE_SCALE,
            theta / task.PITCH_SCALE,
            2.0 * self._power - 1.0,
            self._elevator / task.ELEVATOR_SCALE,
            2.0 * self._throttle - 1.0,
            (self._target_airspeed - task.CENTRE_AIRSPEED) / task.AIRSPEED_SCALE,
        )
        observation = np.array(raw, dtype=np.float32)
        # Few observations need cutting, and looking costs less than cutting.
        if (
            abs(raw[0]) > _CUT_ALTITUDE or abs(raw[1]) > _CUT_CLIMB or abs(raw[2]) > _CUT_AIRSPEED
            or abs(raw[3]) > _CUT_SPEED or abs(raw[4]) > _CUT_ALPHA or abs(raw[5]) > _CUT_RATE
            or abs(raw[6]) > _CUT_PITCH
        ):  # fmt: skip
            observation = observation.clip(_LOW, _HIGH)
        return observation

    def _find_cause(self) -> str | None:
        limits = self.aircraft
        if self._altitude <= 0.0:
            return "ground"
        if self._alpha > limits.stall_alpha + task.ALPHA_MARGIN:
            return "stall"
        if self._airspeed > limits.maximum_airspeed:
            return "overspeed"
        if self._airspeed < limits.minimum_airspeed:
            return "underspeed"
        if abs(self._theta) > task.MAX_PITCH:
            return "pitch"
        if abs(self._altitude_error) > task.MAX_ALTITUDE_ERROR:
            return "altitude"
        if not limits.minimum_load_factor <= self._load_factor <= limits.maximum_load_factor:
            return "load_factor"
        return None


def _stick_and_lever(action: Any) -> tuple[float, float]:
    values = action.tolist() if isinstance(action, np.ndarray) else action
    try:
        stick, lever = values
        finite = math.isfinite(stick) and math.isfinite(lever)
    except (TypeError, ValueError):
        raise ValueError(
            f"action must be two numbers, stick and throttle, shape (2,); got {action!r}"
        ) from None
    if not finite:
        raise ValueError(f"action={action!r} must be finite: stick and throttle from -1 to 1")
    return float(stick), float(lever)
