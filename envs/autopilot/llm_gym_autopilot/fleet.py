"""The task of many aeroplanes in one table of arrays; `FlightEnv` is the same for one.

Each row of the table is a quantity and each column an aeroplane. Rows stand in an order that lets
the reward, the ends and the observation be computed on blocks of rows, because for a thousand
aeroplanes the number of NumPy calls is the price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot import task
from llm_gym_autopilot.aircraft import GRAVITY, Aircraft
from llm_gym_autopilot.noise import NoiseStreams, stream_starts
from llm_gym_autopilot.start import draw_start, start_of
from llm_gym_autopilot.task import STEP_SECONDS
from llm_gym_autopilot.telemetry import Telemetry
from llm_gym_autopilot.turbulence import LEVELS, DrydenFilter
from llm_gym_autopilot.vector_flight import VectorFlight, sin_cos

__all__ = ["Fleet"]

Array = NDArray[np.floating[Any]]
Rows = NDArray[np.intp]

(
    LIFT, ALTITUDE_ERROR, CLIMB, AIRSPEED_ERROR, AIRSPEED, ALPHA,
    ALTITUDE, U, W, Q, THETA, POWER, ELEVATOR, THROTTLE, TARGET_AIRSPEED,
    TARGET_ALTITUDE, GUST_A, GUST_B, GUST_C, DEVIATION, ALTITUDE_BAND, AIRSPEED_BAND,
    THRUST, GUST_U, GUST_W,
) = range(25)  # fmt: skip
NUM_QUANTITIES = 25
WATCHED = slice(LIFT, THETA + 1)  # what can end an episode
STATE = slice(ALTITUDE, THETA + 1)
SEEN = slice(ALTITUDE_ERROR, TARGET_AIRSPEED + 1)  # what is observed, and the velocities between
STARTED = slice(ALTITUDE, AIRSPEED_BAND + 1)  # what a start sets
ERRORS = slice(ALTITUDE_ERROR, AIRSPEED_ERROR + 1, 2)
COMMANDS = slice(ELEVATOR, THROTTLE + 1)
GUSTS = slice(GUST_A, GUST_C + 1)
BANDS = slice(ALTITUDE_BAND, AIRSPEED_BAND + 1)
_FIRST_SEEN = ALPHA - ALTITUDE_ERROR + 1  # observed rows before altitude, u and w, which are not

_DEVIATIONS = np.array(list(LEVELS.values()))
_COUNTS = ("steps", "level", "held", "start_state")


def _column(values: list[float], dtype: np.dtype[Any]) -> Array:
    return np.array(values, dtype=dtype)[:, None]


class Fleet:
    """N aeroplanes with their targets, gusts and rewards; no resets of its own accord.

    Args:
        aircraft: The aeroplane that each of them is.
        num_envs: Their number N.
        turbulence: A level, or "mixed".
        max_episode_steps: Steps after which an episode is truncated.
        dtype: Dtype of the table, float64 or float32.

    Attributes:
        table: Quantities by aeroplane, `(25, N)`.
        steps: Steps of the running episodes, int64 `(N,)`.
        level: Index of the turbulence level, `(N,)`.
        held: Steps of the last 15 s within the bands of altitude and airspeed, `(2, N)`.
    """

    def __init__(
        self,
        aircraft: Aircraft,
        num_envs: int,
        turbulence: str,
        max_episode_steps: int,
        dtype: np.dtype[Any],
    ) -> None:
        n = num_envs
        self._aircraft, self._turbulence = aircraft, turbulence
        self._first_counted = max_episode_steps - task.HOLD_STEPS
        self.dtype = dtype
        self.table = table = np.zeros((NUM_QUANTITIES, n), dtype)
        self.steps = np.zeros(n, np.int64)
        self.level = np.zeros(n, np.intp)
        self.held = np.zeros((2, n), np.int64)
        self._filter = DrydenFilter(aircraft.reference_airspeed, STEP_SECONDS)
        self._flight = VectorFlight(
            aircraft, STEP_SECONDS, table[STATE], table[POWER], table[LIFT], table[THRUST]
        )
        self.noise = NoiseStreams(np.zeros(n, np.uint64), dtype)
        self.start_state = np.zeros(n, np.uint64)
        # Starts are drawn for many aeroplanes at once, before they are needed.
        self._prepared = np.zeros((STARTED.stop - STARTED.start, n), dtype)
        self._prepared_level = np.zeros(n, np.intp)
        self._next_start_state = np.zeros(n, np.uint64)
        self._ready = np.zeros(n, np.bool_)
        self._scratch = np.empty((4, n), dtype)
        self._seen = np.empty((SEEN.stop - SEEN.start, n), dtype)
        self._make_constants(dtype)

    def _make_constants(self, dtype: np.dtype[Any]) -> None:
        limits, infinity = self._aircraft, np.inf
        ground = np.finfo(dtype).tiny  # the episode ends at 0 m and below
        watched = {
            LIFT: (limits.minimum_load_factor * GRAVITY, limits.maximum_load_factor * GRAVITY),
            ALTITUDE_ERROR: (-task.MAX_ALTITUDE_ERROR, task.MAX_ALTITUDE_ERROR),
            AIRSPEED: (limits.minimum_airspeed, limits.maximum_airspeed),
            ALPHA: (-infinity, limits.stall_alpha + task.ALPHA_MARGIN),
            ALTITUDE: (float(ground), infinity),
            THETA: (-task.MAX_PITCH, task.MAX_PITCH),
        }
        pairs = [watched.get(row, (-infinity, infinity)) for row in range(WATCHED.stop)]
        self._low = _column([low for low, _ in pairs], dtype)
        self._high = _column([high for _, high in pairs], dtype)
        self._scales = _column(
            [
                1 / task.ALTITUDE_SCALE, 1 / task.CLIMB_SCALE, 1 / task.AIRSPEED_ERROR_SCALE,
                1 / task.AIRSPEED_SCALE, 1 / task.ALPHA_SCALE, 0.0, 0.0, 0.0,
                1 / task.PITCH_RATE_SCALE, 1 / task.PITCH_SCALE, 2.0, 1 / task.ELEVATOR_SCALE, 2.0,
                1 / task.AIRSPEED_SCALE,
            ],
            dtype,
        )  # fmt: skip
        centre = -task.CENTRE_AIRSPEED / task.AIRSPEED_SCALE
        self._offsets = _column([0, 0, 0, centre, 0, 0, 0, 0, 0, 0, -1, 0, -1, centre], dtype)
        bounds = np.insert(task.OBSERVATION_BOUNDS, _FIRST_SEEN, [1, 1, 1])
        self._highs, self._lows = bounds.astype(dtype)[:, None], -bounds.astype(dtype)[:, None]
        self._halves = _column([task.ALTITUDE_HALF, task.AIRSPEED_HALF], dtype)
        self._weights = _column([-task.ALTITUDE_WEIGHT, -task.AIRSPEED_WEIGHT], dtype)
        self._moves = _column([1 / task.ELEVATOR_MOVE, 1 / task.THROTTLE_MOVE], dtype)

    # ------------------------------------------------------------------ starts

    def seed(self, rows: Rows, seeds: Sequence[int]) -> None:
        """Gives aeroplanes the random streams of their seeds, one seed an aeroplane of `rows`."""
        starts = [stream_starts(int(seed)) for seed in seeds]
        self.start_state[rows], self.noise.state[rows] = np.array(starts, dtype=np.uint64).T
        self._ready[rows] = False

    def begin(self, rows: Rows, options: Mapping[str, Any] | None = None) -> None:
        """Starts episodes.

        Args:
            rows: Which aeroplanes.
            options: As `read_options` returns them, one value an aeroplane of `rows`.

        Raises:
            ValueError: A trimmed start was asked for where there is none.
        """
        if options:
            state = NoiseStreams(self.start_state[rows])
            self.table[STARTED, rows], self.level[rows] = self._draw(state, options)
            self.start_state[rows] = state.state
        else:
            if not self._ready[rows].all():
                self._prepare(np.flatnonzero(~self._ready))
            self.table[STARTED, rows] = self._prepared[:, rows]
            self.level[rows] = self._prepared_level[rows]
            self.start_state[rows] = self._next_start_state[rows]
        self._ready[rows] = False
        self.steps[rows] = 0
        self.held[:, rows] = 0
        self._derive_of(rows)

    def _prepare(self, rows: Rows) -> None:
        streams = NoiseStreams(self.start_state[rows])
        self._prepared[:, rows], self._prepared_level[rows] = self._draw(streams, {})
        self._next_start_state[rows] = streams.state
        self._ready[rows] = True

    def _draw(self, streams: NoiseStreams, options: Mapping[str, Any]) -> tuple[Array, Rows]:
        """Rows `STARTED` of the table for new episodes, and their levels."""
        draw = draw_start(streams, self._turbulence, options)
        start = start_of(self._aircraft, draw, options)
        gusty = draw.level > 0
        quantities = (
            start.altitude, start.u, start.w, start.q, start.theta, start.power,
            start.elevator, start.throttle, draw.target_airspeed, draw.target_altitude,
            draw.gust_a, draw.gust_b, draw.gust_c, _DEVIATIONS[draw.level],
            np.where(gusty, task.ALTITUDE_BAND_GUSTS, task.ALTITUDE_BAND),
            np.where(gusty, task.AIRSPEED_BAND_GUSTS, task.AIRSPEED_BAND),
        )  # fmt: skip
        return np.stack(quantities), draw.level

    def _derive_of(self, rows: Rows) -> None:
        part = self.table[:, rows]
        scratch = np.empty((4, rows.size), self.dtype)
        _set_gusts(part, self._filter, scratch[0])
        _derive(part, scratch)
        self.table[:, rows] = part

    # ------------------------------------------------------------------ a step

    def fly(self, commands: Array) -> Array:
        """Moves the controls, lets the wind blow and flies one step.

        Args:
            commands: Elevator [rad] and throttle, `(2, N)`.

        Returns:
            Rewards `(N,)`, in an array that the next call reuses.
        """
        table, scratch = self.table, self._scratch
        reward = scratch[3]
        moves = scratch[:2]
        np.subtract(commands, table[COMMANDS], out=moves)
        np.abs(moves, out=moves)
        moves *= self._moves
        np.add(moves[0], moves[1], out=reward)
        np.minimum(reward, 1.0, out=reward)
        reward *= -task.SMOOTHNESS_WEIGHT
        reward += 1.0
        table[COMMANDS] = commands

        _blow(table, self._filter, self.noise.normal_pair(), scratch[0])
        self._flight.step(table[ELEVATOR], table[THROTTLE], table[GUST_U], table[GUST_W])
        self.steps += 1
        _derive(table, scratch[:3])

        off, base = scratch[:2], self._seen[:2]
        np.abs(table[ERRORS], out=off)
        late = self.steps > self._first_counted
        if late.any():
            self.held += (off < table[BANDS]) & late
        np.add(off, self._halves, out=base)
        off /= base
        off *= self._weights
        reward += off[0]
        reward += off[1]
        return reward

    def ends(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which limits are exceeded.

        Returns:
            Whether any is, bool `(N,)`, and which row of the table, `(11, N)`. A start exceeds
            none.
        """
        watched = self.table[WATCHED]
        exceeded = watched < self._low
        exceeded |= watched > self._high
        ended = exceeded.any(axis=0)
        ended &= self.steps > 0  # the lift of an aeroplane that has just started is not its own yet
        return ended, exceeded

    def cause(self, row: int, exceeded: NDArray[np.bool_]) -> str | None:
        """What ended the episode of an aeroplane.

        Args:
            row: Which aeroplane.
            exceeded: What `ends` returned, `(11, N)`.

        Returns:
            One of `task.CAUSES`, the first that applies; None if none does.
        """
        fast = bool(self.table[AIRSPEED, row] > self._aircraft.maximum_airspeed)
        by_cause = {
            "ground": exceeded[ALTITUDE, row],
            "stall": exceeded[ALPHA, row],
            "overspeed": exceeded[AIRSPEED, row] and fast,
            "underspeed": exceeded[AIRSPEED, row] and not fast,
            "pitch": exceeded[THETA, row],
            "altitude": exceeded[ALTITUDE_ERROR, row],
            "load_factor": exceeded[LIFT, row],
        }
        return next((name for name in task.CAUSES if by_cause[name]), None)

    def is_success(self) -> NDArray[np.bool_]:
        """Whether the target was held long enough in the last 15 s, bool `(N,)`."""
        altitude, airspeed = self.held
        return (altitude >= task.HELD_ALTITUDE_STEPS) & (airspeed >= task.HELD_AIRSPEED_STEPS)

    def observations(self, rows: Rows | None = None) -> NDArray[np.float32]:
        """Observations of all aeroplanes, or of some.

        Args:
            rows: Which; None for all.

        Returns:
            A new array, float32 `(N, 11)`.
        """
        if rows is None:
            seen, values = self._seen, self.table[SEEN]
        else:
            values = self.table[SEEN, rows]
            seen = values
        np.multiply(values, self._scales, out=seen)
        seen += self._offsets
        np.maximum(seen, self._lows, out=seen)
        np.minimum(seen, self._highs, out=seen)
        observations = np.empty((seen.shape[1], len(task.OBSERVATION_NAMES)), np.float32)
        observations[:, :_FIRST_SEEN] = seen[:_FIRST_SEEN].T
        observations[:, _FIRST_SEEN:] = seen[_FIRST_SEEN + 3 :].T
        return observations

    # ------------------------------------------------------------------ instruments and state

    def telemetry(self) -> Telemetry:
        """What the instruments of all aeroplanes show, arrays `(N,)`."""
        t = self.table
        lift, thrust = t[LIFT].copy(), t[THRUST].copy()
        fresh = np.flatnonzero(self.steps == 0)
        if fresh.size:
            lift[fresh], thrust[fresh] = self._forces_at_start(fresh)
        return Telemetry(
            t[ALTITUDE].copy(), t[AIRSPEED].copy(), t[CLIMB].copy(), np.degrees(t[THETA]),
            np.degrees(t[ALPHA]), np.degrees(t[Q]), lift / GRAVITY, np.degrees(t[ELEVATOR]),
            t[THROTTLE].copy(), t[POWER].copy(), thrust * self._aircraft.mass,
            t[TARGET_ALTITUDE].copy(), t[TARGET_AIRSPEED].copy(), t[ALTITUDE_ERROR].copy(),
            t[AIRSPEED_ERROR].copy(), 0.0 - t[GUST_W], t[GUST_U].copy(),
        )  # fmt: skip

    def _forces_at_start(self, rows: Rows) -> tuple[Array, Array]:
        """By a step of no length."""
        part = self.table[:, rows]
        look = VectorFlight(self._aircraft, 0.0, part[STATE], part[POWER], part[LIFT], part[THRUST])
        look.step(part[ELEVATOR], part[THROTTLE], part[GUST_U], part[GUST_W])
        return part[LIFT], part[THRUST]

    def get_state(self) -> dict[str, Any]:
        """Copies of all that the future depends on."""
        return {
            "table": self.table.copy(),
            "noise": self.noise.state.copy(),
            **{name: getattr(self, name).copy() for name in _COUNTS},
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `get_state` returned; shapes and dtypes must be the same."""
        self.table[:] = state["table"]
        self.noise.state[:] = state["noise"]
        for name in _COUNTS:
            getattr(self, name)[:] = state[name]
        self._ready[:] = False


def _set_gusts(table: Array, gusts: DrydenFilter, scratch: Array) -> None:
    np.multiply(table[DEVIATION], table[GUST_A], out=table[GUST_U])
    np.multiply(table[GUST_B], gusts.weight_b, out=table[GUST_W])
    np.multiply(table[GUST_C], gusts.weight_c, out=scratch)
    table[GUST_W] += scratch
    table[GUST_W] *= table[DEVIATION]


def _blow(table: Array, gusts: DrydenFilter, normal: Array, scratch: Array) -> None:
    """The next gusts, from two normal numbers an aeroplane `(2, N)`, which are used up."""
    np.multiply(table[GUST_B], gusts.feed, out=scratch)
    table[GUSTS] *= gusts.decay
    table[GUST_C] += scratch
    np.multiply(normal[1], gusts.cross_drive, out=scratch)
    table[GUST_C] += scratch
    normal *= gusts.drive
    table[GUST_A : GUST_B + 1] += normal
    _set_gusts(table, gusts, scratch)


def _derive(table: Array, scratch: Array) -> None:
    """Airspeed, angle of attack, rate of climb and the errors, from state, gusts and targets."""
    air = scratch[:2]
    np.subtract(table[U : W + 1], table[GUST_U : GUST_W + 1], out=air)
    np.arctan2(air[1], air[0], out=table[ALPHA])
    air *= air
    np.add(air[0], air[1], out=table[AIRSPEED])
    np.sqrt(table[AIRSPEED], out=table[AIRSPEED])
    sin_cos(table[THETA], scratch[0], scratch[1], scratch[2])
    np.multiply(scratch[0], table[U], out=table[CLIMB])
    scratch[1] *= table[W]
    table[CLIMB] -= scratch[1]
    np.subtract(table[TARGET_ALTITUDE], table[ALTITUDE], out=table[ALTITUDE_ERROR])
    np.subtract(table[TARGET_AIRSPEED], table[AIRSPEED], out=table[AIRSPEED_ERROR])
