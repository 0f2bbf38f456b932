"""`llm_gym/Autopilot-v0` and `llm_gym/AutopilotDiscrete-v0` for many aeroplanes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from llm_gym_autopilot import task
from llm_gym_autopilot.aircraft import find_aircraft
from llm_gym_autopilot.fleet import COMMANDS, ERRORS, Fleet
from llm_gym_autopilot.options import check_turbulence, read_options
from llm_gym_autopilot.task import STEP_SECONDS
from llm_gym_autopilot.telemetry import Telemetry
from llm_gym_autopilot.turbulence import LEVELS, MIXED

__all__ = ["AutopilotDiscreteVectorEnv", "AutopilotVectorEnv"]

_LEVEL_NAMES = tuple(LEVELS)
_DTYPES = ("float64", "float32")
Array = NDArray[np.floating[Any]]


class AutopilotVectorEnv(VectorEnv[NDArray[np.float32], Any, NDArray[Any]]):
    """N aeroplanes, each doing what `AutopilotEnv` does; its docstring has spaces, reward and ends.

    Row i of an environment seeded with s is the single environment seeded with s + i. Infos are
    made only of rows whose episode ended in the step: `cause`, `is_success`, `turbulence`,
    `altitude_error_m` and `airspeed_error_mps`, under "final_info" in mode SAME_STEP. `telemetry()`
    has the instruments of all rows at any time.

    ## Arguments
    | Argument | Values | Default |
    |---|---|---|
    | `num_envs` | number of aeroplanes | 1 |
    | `aircraft` | "navion" | "navion" |
    | `turbulence` | as in `AutopilotEnv` | "mixed" |
    | `dtype` | of the computation: "float64", or "float32" for speed | "float64" |
    | `max_episode_steps` | steps after which an episode is truncated | 300 |
    | `autoreset_mode` | of `gymnasium.vector.AutoresetMode` | NEXT_STEP |
    | `render_mode` | "rgb_array": one picture a row | None |

    Raises:
        ValueError: A parameter is out of range or unknown.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 -- Gymnasium's own attribute
        "render_modes": ["rgb_array"],
        "render_fps": 5,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        aircraft: str = "navion",
        turbulence: str = "mixed",
        dtype: str = "float64",
        max_episode_steps: int = task.MAX_EPISODE_STEPS,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        *,
        discrete: bool = False,
    ) -> None:
        self.num_envs = _positive("num_envs", num_envs)
        self.max_episode_steps = _positive("max_episode_steps", max_episode_steps)
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.dtype = _float_dtype(dtype)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode={render_mode!r} must be 'rgb_array' or None")
        self.render_mode = render_mode
        self.aircraft = find_aircraft(aircraft)
        self.turbulence = check_turbulence(turbulence, (*_LEVEL_NAMES, MIXED))
        self.single_observation_space = task.observation_space()
        self.single_action_space = task.action_space(discrete)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._discrete = discrete
        self._fleet = Fleet(
            self.aircraft, num_envs, self.turbulence, self.max_episode_steps, self.dtype
        )
        self._seeded = False
        self._ended = np.zeros(num_envs, np.bool_)  # rows that do not fly until they are reset
        self._cockpit: Any = None

    # ------------------------------------------------------------------ reset

    def reset(
        self,
        *,
        seed: int | Sequence[int] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode in every row, or in those of `options["reset_mask"]`.

        Args:
            seed: Row i gets seed + i, or the i-th of N seeds.
            options: As in `AutopilotEnv.reset`, each value for all rows or one a row, and
                `reset_mask`, bool `(N,)`: which rows start anew.

        Returns:
            Observations float32 `(N, 11)` and an empty info.

        Raises:
            ValueError: An unknown option, or a value outside the flight envelope.
            TypeError: An option of the wrong type.
        """
        seeds = self._row_seeds(seed)
        super().reset(seed=None if seeds is None else int(seeds[0]))
        options = dict(options or {})
        rows = self._masked_rows(options.pop("reset_mask", None))
        options = read_options(options, self.aircraft, self.num_envs)
        if seeds is None and not self._seeded:
            known = self.np_random_seed
            if known is None or known < 0:  # the caller set a generator of his own
                known = int(self.np_random.integers(2**63))
            seeds = range(known, known + self.num_envs)
        if seeds is not None:
            self._fleet.seed(rows, [seeds[row] for row in rows])
            self._seeded = True
        if "state" in options:
            self.set_state(options["state"])
        else:
            self._fleet.begin(rows, {key: _of_rows(value, rows) for key, value in options.items()})
            self._ended[rows] = False
        return self._fleet.observations(), {}

    def _row_seeds(self, seed: int | Sequence[int] | None) -> Sequence[int] | None:
        if seed is None:
            return None
        if isinstance(seed, (int, np.integer)):
            return range(int(seed), int(seed) + self.num_envs)
        if len(seed) != self.num_envs:
            raise ValueError(f"seed has {len(seed)} entries; give one number or {self.num_envs}")
        return seed

    def _masked_rows(self, mask: Any) -> NDArray[np.intp]:
        if mask is None:
            return np.arange(self.num_envs)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(
                f"options['reset_mask'] must be bool of shape ({self.num_envs},), got "
                f"{mask.dtype} {mask.shape}"
            )
        if not mask.any():
            raise ValueError("options['reset_mask'] is False everywhere: nothing to reset")
        if not self._seeded and not mask.all():
            raise ValueError("options['reset_mask']: the first reset must be of all rows")
        return np.flatnonzero(mask)

    # ------------------------------------------------------------------ step

    def step(
        self, actions: Any
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Flies all aeroplanes for 0.2 s.

        Args:
            actions: `(N, 2)` from -1 to 1 (cut off beyond); or integers `(N,)` from 0 to 8.

        Returns:
            Observations float32 `(N, 11)`, rewards float64 `(N,)`, terminated and truncated bool
            `(N,)`, infos of the rows that ended.

        Raises:
            ResetNeeded: Before the first reset, or (mode DISABLED) rows have ended and were not
                reset.
            ValueError: Actions of the wrong shape, not finite, or outside the discrete space.
        """
        self._need_episodes("step()")
        fleet = self._fleet
        waiting = np.flatnonzero(self._ended)
        if waiting.size and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"rows {waiting[:5].tolist()} have ended: first call "
                "reset(options={'reset_mask': ended})"
            )
        gusts_of_waiting = fleet.noise.state[waiting]
        reward = fleet.fly(self._commands(actions)).astype(np.float64)
        if waiting.size:  # they are reset in this step and did not fly
            fleet.noise.state[waiting] = gusts_of_waiting
            fleet.begin(waiting)
            reward[waiting] = 0.0
        terminated, exceeded = fleet.ends()
        truncated = fleet.steps >= self.max_episode_steps
        truncated &= ~terminated
        self._ended = terminated | truncated
        observations = fleet.observations()
        infos: dict[str, Any] = {}
        if self._ended.any():
            infos = self._final_infos(exceeded)
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                infos = self._restart(observations, infos)
        return observations, reward, terminated, truncated, infos

    def _need_episodes(self, what: str) -> None:
        if not self._seeded:
            raise ResetNeeded(f"call reset() before {what}: no episode is running")

    def _commands(self, actions: Any) -> Array:
        """Elevator and throttle, `(2, N)`."""
        limit = self.aircraft.elevator_limit
        actions = np.asarray(actions)
        if self._discrete:
            self._check_clicks(actions)
            elevator, throttle = self._fleet.table[COMMANDS]
            return np.stack(task.clicked(actions.astype(self.dtype), elevator, throttle, limit))
        if actions.shape != (self.num_envs, 2):
            raise ValueError(
                f"actions must be stick and throttle, shape ({self.num_envs}, 2); got "
                f"{actions.shape}"
            )
        commands = np.empty((2, self.num_envs), self.dtype)
        commands[:] = actions.T
        if not np.isfinite(commands.sum()):  # a sum is quicker than looking at each
            raise ValueError(
                "actions must be finite: stick and throttle from -1 to 1; got "
                + str(actions[~np.isfinite(actions).all(axis=1)][:3].tolist())
            )
        np.maximum(commands, -1.0, out=commands)
        np.minimum(commands, 1.0, out=commands)
        commands[0] *= -limit
        commands[1] += 1.0
        commands[1] *= 0.5
        return commands

    def _check_clicks(self, actions: NDArray[Any]) -> None:
        if actions.shape != (self.num_envs,) or not np.issubdtype(actions.dtype, np.integer):
            raise ValueError(
                f"actions must be integers of shape ({self.num_envs},), got {actions.dtype} "
                f"{actions.shape}"
            )
        if actions.min() < 0 or actions.max() >= task.NUM_ACTIONS:
            raise ValueError(f"actions must be from 0 to {task.NUM_ACTIONS - 1}, got {actions}")

    # ------------------------------------------------------------------ ends of episodes

    def _final_infos(self, exceeded: NDArray[np.bool_]) -> dict[str, Any]:
        """Infos of the rows that ended, in the layout of Gymnasium's vector environments."""
        fleet, ended = self._fleet, self._ended.copy()
        cause = np.full(self.num_envs, None, dtype=object)
        turbulence = np.full(self.num_envs, None, dtype=object)
        rows = np.flatnonzero(ended)
        for row in rows.tolist():
            cause[row] = fleet.cause(row, exceeded)
            turbulence[row] = _LEVEL_NAMES[fleet.level[row]]
        errors = np.zeros((2, self.num_envs))
        errors[:, rows] = fleet.table[ERRORS, rows]
        values = {
            "cause": cause,
            "is_success": fleet.is_success() & ended & ~exceeded.any(axis=0),
            "turbulence": turbulence,
            "altitude_error_m": errors[0],
            "airspeed_error_mps": errors[1],
        }
        return {
            k: v for key, value in values.items() for k, v in ((key, value), ("_" + key, ended))
        }

    def _restart(self, observations: NDArray[np.float32], infos: dict[str, Any]) -> dict[str, Any]:
        """Resets the rows that ended, in the observations, too; wraps their infos up."""
        ended = self._ended
        rows = np.flatnonzero(ended)
        final = np.full(self.num_envs, None, dtype=object)
        for row in rows.tolist():
            final[row] = observations[row].copy()
        self._fleet.begin(rows)
        observations[rows] = self._fleet.observations(rows)
        self._ended = np.zeros(self.num_envs, np.bool_)
        return {
            "final_obs": final,
            "_final_obs": ended,
            "final_info": infos,
            "_final_info": ended,
        }

    # ------------------------------------------------------------------ state and instruments

    def telemetry(self) -> Telemetry:
        """What the instruments of all rows show now.

        Returns:
            Arrays `(N,)`, as copies.

        Raises:
            ResetNeeded: There was no episode yet.
        """
        self._need_episodes("telemetry()")
        return self._fleet.telemetry()

    def get_state(self) -> dict[str, Any]:
        """All that the future depends on.

        Returns:
            Arrays and plain values, for `set_state` or `reset(options={"state": ...})`.

        Raises:
            ResetNeeded: There was no episode yet.
        """
        self._need_episodes("get_state()")
        return {
            "aircraft": self.aircraft.name,
            "dtype": self.dtype.name,
            "fleet": self._fleet.get_state(),
            "ended": self._ended.copy(),
            "np_random": self.np_random.bit_generator.state,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state; what follows is bit for bit what followed then.

        Args:
            state: From `get_state` of an environment of the same size and dtype.

        Raises:
            ValueError: It is of another size, dtype or aeroplane, or something is missing.
            TypeError: It is no mapping.
        """
        self._check_state(state)
        self._fleet.set_state(state["fleet"])
        self._ended = np.array(state["ended"], dtype=np.bool_)
        self._seeded = True
        self.np_random.bit_generator.state = dict(state["np_random"])

    def _check_state(self, state: Any) -> None:
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a dict from get_state(), got {type(state).__name__}")
        missing = sorted({"aircraft", "dtype", "fleet", "ended", "np_random"} - state.keys())
        if missing:
            raise ValueError(f"state lacks {', '.join(missing)}; it must come from get_state()")
        saved = state["aircraft"], state["dtype"], np.shape(state["ended"])
        needed = self.aircraft.name, self.dtype.name, (self.num_envs,)
        if saved != needed:
            raise ValueError(f"state is of {saved} (aircraft, dtype, shape), needed is {needed}")

    # ------------------------------------------------------------------ pictures

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One picture a row, uint8 `(400, 600, 3)` each, in mode "rgb_array".

        Raises:
            DependencyNotInstalled: Pygame is missing.
            ResetNeeded: There was no episode yet.
        """
        from llm_gym_autopilot.rendering import Cockpit, CockpitFrame

        if self.render_mode is None:
            gym.logger.warn("render() does nothing without a render_mode, e.g. 'rgb_array'")
            return None
        if self._cockpit is None:
            self._cockpit = Cockpit()
        readings = self.telemetry()
        frames = [
            CockpitFrame.at(
                Telemetry(*(float(values[row]) for values in readings)),
                limits=self.aircraft,
                turbulence=_LEVEL_NAMES[self._fleet.level[row]],
                time_s=float(self._fleet.steps[row]) * STEP_SECONDS,
            )
            for row in range(self.num_envs)
        ]
        return tuple(self._cockpit.draw(frame) for frame in frames)

    def close_extras(self, **kwargs: Any) -> None:
        """Free what rendering holds."""
        if self._cockpit is not None:
            self._cockpit.close()
            self._cockpit = None


class AutopilotDiscreteVectorEnv(AutopilotVectorEnv):
    """N aeroplanes flown by clicks, each doing what `AutopilotDiscreteEnv` does.

    Arguments are those of `AutopilotVectorEnv`.
    """

    def __init__(self, num_envs: int = 1, **arguments: Any) -> None:
        super().__init__(num_envs, **arguments, discrete=True)


def _of_rows(value: Any, rows: NDArray[np.intp]) -> Any:
    return value[rows] if isinstance(value, np.ndarray) else value


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)


def _float_dtype(dtype: Any) -> np.dtype[Any]:
    name = getattr(dtype, "__name__", str(dtype))  # "float32", numpy.float32 or numpy.dtype(...)
    if name not in _DTYPES:
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(_DTYPES)}")
    return np.dtype(name)


def _autoreset_mode(mode: Any) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        names = ", ".join(repr(known.value) for known in AutoresetMode)
        raise ValueError(f"autoreset_mode={mode!r} must be one of {names}") from None
