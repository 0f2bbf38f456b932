"""N rows of tokens as a Gymnasium vector environment, in one set of arrays."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from llm_gym.files.generators import generator_from, generator_state
from llm_gym.files.ranges import check_numbers
from llm_gym.files.schema import Check, boolean, list_of, record
from llm_gym.text.mdp import TokenMDP, TokenProperties, check_reset_options
from llm_gym.text.prompts import is_conversation
from llm_gym.text.rendering import (
    RENDER_MODES,
    Frame,
    as_text,
    check_render_mode,
    frame_of,
    render,
    show,
)
from llm_gym.text.rows import Observation, Rows, Step


class TokenVectorEnv(TokenProperties, VectorEnv[Observation, np.ndarray, np.ndarray]):
    """N rows, a token an action each; the rules are those of its rows.

    A subclass makes these between `_set_up` and `_set_rows`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 10}  # type: ignore[misc]

    def _set_up(
        self,
        num_envs: int,
        autoreset_mode: AutoresetMode | str,
        group_size: int,
        max_episode_steps: int | None,
        render_mode: str | None,
    ) -> None:
        """Checks and keeps what every environment of rows is told."""
        check_numbers(num_envs=num_envs, group_size=group_size)
        if num_envs % group_size:
            raise ValueError(f"group_size={group_size} must divide num_envs={num_envs}")
        check_render_mode(render_mode)
        self._max_steps = _max_steps(max_episode_steps)
        self.num_envs = num_envs
        self.group_size = group_size
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}  # type: ignore[misc]
        self.render_mode = render_mode

    def _set_rows(self, mdp: TokenMDP, episodes: Rows) -> None:
        """Keeps the rows, and begins with none of them running."""
        self._mdp: Any = mdp
        self._episodes: Any = episodes
        self._rngs: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds: list[int] = [-1] * self.num_envs
        self._has_begun = np.zeros(self.num_envs, dtype=bool)
        # Rows whose episode the limit of steps has cut off; nothing but a reset can follow.
        self._cut_off = np.zeros(self.num_envs, dtype=bool)
        self._last_frames: dict[int, Frame] = {}  # of rows that this step has ended and reset
        self.single_observation_space = mdp.observation_space
        self.single_action_space = mdp.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator of each row."""
        return tuple(self._rng(row) for row in range(self.num_envs))

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each row."""
        _ = self.np_random
        return tuple(self._seeds)

    def _rng(self, row: int) -> np.random.Generator:
        rng = self._rngs[row]
        if rng is None:
            rng, self._seeds[row] = seeding.np_random()
            self._rngs[row] = rng
        return rng

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins an episode in every row, or in those of `options["reset_mask"]`.

        Args:
            seed: Row i is seeded `seed + i // group_size`; or one seed a row.
            options: See the class.

        Returns:
            Observation of all rows; infos of those that were reset.

        Raises:
            ValueError: An option is unknown or has the wrong shape, or a prompt does not fit.
            TypeError: The reset mask is not a bool array.
        """
        known = (*self._episodes.start_options, "reset_mask")
        options = dict(check_reset_options(options, known))
        self._last_frames.clear()
        rows = self._rows_to_reset(options)
        seeds = self._row_seeds(seed)
        starts = [self._chosen_start(options, row) for row in rows]
        for row in rows:
            row_seed = seeds[row]
            if row_seed is not None:
                self._rngs[row], self._seeds[row] = seeding.np_random(row_seed)
                self._episodes.restart_cursor(row)
        infos = self._begin(rows, {}, starts)
        self._add_masks(infos, rows)
        self._draw()
        return self._episodes.observation(), infos

    def _rows_to_reset(self, options: Mapping[str, Any]) -> list[int]:
        if "reset_mask" not in options:
            return list(range(self.num_envs))
        mask = options["reset_mask"]
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"options['reset_mask'] must be a numpy array of bool, got {mask!r}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must have shape ({self.num_envs},) and at least one true "
                f"entry, got {mask!r}"
            )
        return np.flatnonzero(mask).tolist()

    def _row_seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if not isinstance(seed, Sequence):
            first = operator.index(seed)
            return [first + row // self.group_size for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"seed has {len(seed)} entries, but num_envs={self.num_envs}")
        return seed

    def _chosen_start(self, options: Mapping[str, Any], row: int) -> Any:
        for name in self._episodes.start_options:
            if name in options:
                return self._episodes.start_of(name, self._of_row(name, options[name], row))
        return None

    def _of_row(self, name: str, value: Any, row: int) -> Any:
        if isinstance(value, (str, Mapping)) or not hasattr(value, "__len__"):
            return value
        if is_conversation(value):
            return value
        if len(value) != self.num_envs:
            raise ValueError(
                f"options[{name!r}] has {len(value)} entries, but num_envs={self.num_envs}; pass "
                "one a row, or a single one for all"
            )
        return value[row]

    def _begin(
        self, rows: Sequence[int], infos: dict[str, Any], starts: Sequence[Any] | None = None
    ) -> dict[str, Any]:
        """Begins the rows' next episodes; the infos with those of the resets."""
        starts = [None] * len(rows) if starts is None else starts
        begun = self._episodes.begin(rows, self._rng, starts)
        for row, info in zip(rows, begun, strict=True):
            self._has_begun[row] = True
            self._cut_off[row] = False
            infos = self._add_info(infos, info, row)
        return infos

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Appends a token to every row.

        Args:
            actions: Integers `(N,)`, ids of the next tokens.

        Returns:
            Observation, rewards float64 `(N,)`, terminated bool `(N,)`, truncated bool `(N,)` and
            infos, which are empty unless a row ended or was reset, or actions are masked.

        Raises:
            ResetNeeded: Before the first reset, or in mode "Disabled" if a row has ended.
            ValueError: An action is not in the action space, or masked.
            ScorerError: The scorer failed and `on_scorer_error` is "raise".
        """
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            raise ValueError(
                f"actions must be integers of shape ({self.num_envs},), got {actions.dtype} of "
                f"shape {actions.shape}"
            )
        self._last_frames.clear()
        running = self._episodes.running
        if self._max_steps is not None:
            running &= ~self._cut_off
        resting = None if running.all() else np.flatnonzero(~running).tolist()
        if resting is not None:
            self._check_may_rest(resting)
        step = self._episodes.step(actions)
        truncated = step.truncated
        if self._max_steps is not None:
            at_limit = self._episodes.generated >= self._max_steps
            truncated = truncated | (at_limit & (step.terminated | running))
            self._cut_off = at_limit & running
        infos: dict[str, Any] = {}
        if step.outcomes or step.infos or resting is not None or self._cut_off.any():
            infos = self._end_and_begin(step, resting or [])
        self._add_masks(infos, range(self.num_envs))
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._draw()
        return self._episodes.observation(), step.rewards, step.terminated, truncated, infos

    def _check_may_rest(self, resting: Sequence[int]) -> None:
        if not self._has_begun.all():
            raise ResetNeeded("step() needs running episodes: call reset() first")
        if self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"rows {list(resting)} have ended and autoreset is disabled: reset them with "
                "reset(options={'reset_mask': terminated | truncated}) before the next step"
            )
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            raise ResetNeeded(
                f"rows {list(resting)} have ended, but the step that ended them failed before it "
                "could reset them: call reset() first"
            )

    def _end_and_begin(self, step: Step, resting: Sequence[int]) -> dict[str, Any]:
        """Infos of a step in which rows had something to say, ended, or have to be reset."""
        infos: dict[str, Any] = {}
        outcomes = step.outcomes
        same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        cut_off = np.flatnonzero(self._cut_off).tolist() if same_step else []
        for row in sorted(step.infos.keys() - set(cut_off)):
            infos = self._add_info(infos, step.infos[row], row)
        if not same_step:
            for row in sorted(outcomes):
                infos = self._add_info(infos, outcomes[row].info, row)
            return self._begin(resting, infos) if resting else infos
        self._draw()
        masks = self._final_masks()
        ended = sorted([*outcomes, *cut_off])
        for row in ended:
            final_info = dict(outcomes[row].info if row in outcomes else step.infos.get(row, {}))
            if masks is not None:
                final_info["action_mask"] = masks[row].copy()
            final = {
                "final_obs": self._episodes.row_observation(row),
                "final_info": final_info,
            }
            infos = self._add_info(infos, final, row)
            if self.render_mode is not None:
                self._last_frames[row] = frame_of(self._episodes, row)
        return self._begin(ended, infos) if ended else infos

    def _final_masks(self) -> np.ndarray | None:
        """Masks of rows that have ended: int8 `(N, V)`, ones but for rows that were cut off."""
        if not self._mdp.masks.active:
            return None
        if self._cut_off.any():
            return self._episodes.update_masks()
        return np.ones((self.num_envs, self._mdp.vocabulary.size), dtype=np.int8)

    def _add_masks(self, infos: dict[str, Any], rows: Sequence[int]) -> None:
        masks = self._episodes.update_masks()
        if masks is not None:
            present = np.zeros(self.num_envs, dtype=bool)
            present[rows] = True
            infos["action_mask"] = masks * present[:, None]
            infos["_action_mask"] = present

    def wait(self, rows: np.ndarray) -> None:
        """Has rows take no part in steps, until they are reset or the next call leaves them out.

        Their actions are ignored and their observations stay as they are.

        Args:
            rows: bool `(N,)`.

        Raises:
            ValueError: They are no bool array of that shape.
        """
        if not isinstance(rows, np.ndarray) or rows.dtype != np.bool_:
            raise ValueError(f"rows must be a numpy array of bool, got {rows!r}")
        if rows.shape != (self.num_envs,):
            raise ValueError(f"rows must have shape ({self.num_envs},), got {rows.shape}")
        self._episodes.waiting[:] = rows

    def action_masks(self) -> np.ndarray:
        """Which actions are allowed now: bool `(N, V)`."""
        return self._episodes.action_masks()

    def render(self) -> tuple[Any, ...] | None:
        """Each row now, as the render mode says.

        Returns:
            Texts ("ansi") or pictures ("rgb_array": uint8 `(540, 960, 3)`), one a row; None
            ("human", which has printed them).

        Raises:
            gymnasium.error.DependencyNotInstalled: "rgb_array" without Pillow.
            ResetNeeded: There was no episode yet.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() needs a render mode: make the environment with render_mode='ansi' for "
                "text or 'rgb_array' for pictures"
            )
        if self.render_mode in (None, "human"):
            return None
        frames = (
            self._last_frames.get(row) or frame_of(self._episodes, row)
            for row in range(self.num_envs)
        )
        return tuple(render(frame, self.render_mode) for frame in frames)

    def _draw(self) -> None:
        if self.render_mode == "human":
            for row in range(self.num_envs):
                show(f"row {row}\n{as_text(frame_of(self._episodes, row))}\n")

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue exactly: JSON-able, as far as the prompts' columns are.

        Returns:
            State for `set_state`: generators, places in the walks, tokens of the episodes.
        """
        return {
            "rngs": [rng.bit_generator.state for rng in self.np_random],
            "has_begun": self._has_begun.tolist(),
            "cut_off": self._cut_off.tolist(),
            "episodes": self._episodes.get_state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> Observation:
        """Continues from a state of `get_state`, of an environment made with the same arguments.

        Args:
            state: The state.

        Returns:
            The observation at that moment.

        Raises:
            ValueError: The state does not fit, or the prompts are a stream that is past it.
        """
        self.check_state("the state", state)
        self._episodes.set_state(state["episodes"])
        self._rngs = [generator_from(saved) for saved in state["rngs"]]
        self._seeds = [-1] * self.num_envs
        self._has_begun[:] = state["has_begun"]
        self._cut_off[:] = state["cut_off"]
        self._last_frames.clear()
        return self._episodes.observation()

    def check_state(self, name: str, state: Any) -> None:
        """Raises `ValueError` unless `set_state` can continue from a state.

        Args:
            name: Of the state, for messages.
            state: The state.
        """
        checks: dict[str, Check] = {"episodes": self._episodes.check_state}
        for key, check in ("rngs", generator_state), ("has_begun", boolean), ("cut_off", boolean):
            checks[key] = list_of(check, self.num_envs)
        record(checks)(name, state)


def _max_steps(max_episode_steps: int | None) -> int | None:
    """The limit as Gymnasium's `make` reads it: -1 is none."""
    if max_episode_steps is None or max_episode_steps == -1:
        return None
    if isinstance(max_episode_steps, bool) or not isinstance(max_episode_steps, int):
        raise TypeError(f"max_episode_steps={max_episode_steps!r} must be an integer")
    if max_episode_steps < 1:
        raise ValueError(f"max_episode_steps={max_episode_steps} must be at least 1 (-1: no limit)")
    return max_episode_steps


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        allowed = [m.value for m in AutoresetMode]
        raise ValueError(f"autoreset_mode={mode!r} is not one of {allowed}") from None
