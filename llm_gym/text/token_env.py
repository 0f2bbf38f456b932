"""One row of tokens as a Gymnasium environment, whatever follows a text of the agent's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from llm_gym.files.generators import generator_from, generator_state
from llm_gym.files.schema import record
from llm_gym.text.mdp import TokenMDP, TokenProperties, check_reset_options
from llm_gym.text.rendering import (
    RENDER_MODES,
    as_text,
    check_render_mode,
    frame_of,
    render,
    show,
)
from llm_gym.text.rows import Observation, Rows


class TokenEnv(TokenProperties, gym.Env[Observation, np.int64]):
    """One token an action; the rules are those of its rows.

    Args:
        mdp: The rules.
        episodes: One row.
        render_mode: "ansi", "rgb_array", "human" or None.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 10}  # type: ignore[misc]

    def __init__(self, mdp: TokenMDP, episodes: Rows, render_mode: str | None) -> None:
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self._mdp: Any = mdp
        self._episodes: Any = episodes
        self.observation_space = mdp.observation_space  # type: ignore[assignment]
        self.action_space = mdp.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins an episode.

        Args:
            seed: Seeds the generator that chooses how episodes begin, and starts the walk anew.
            options: How the episode begins, such as `{"prompt_index": ...}`.

        Returns:
            Observation and info.

        Raises:
            ValueError: An option is unknown, or what it names is empty, too long or does not exist.
        """
        start = self._chosen_start(options)
        super().reset(seed=seed)
        if seed is not None:
            self._episodes.restart_cursor(0)
        (info,) = self._episodes.begin([0], lambda _: self.np_random, [start])
        self._add_mask(info)
        self._draw()
        return self._episodes.row_observation(0), info

    def _chosen_start(self, options: Mapping[str, Any] | None) -> Any:
        known = self._episodes.start_options
        options = check_reset_options(options, known)
        chosen = [self._episodes.start_of(name, options[name]) for name in known if name in options]
        return chosen[0] if chosen else None

    def step(
        self, action: int | np.integer | np.ndarray
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Appends a token.

        Args:
            action: Id of the next token.

        Returns:
            Observation, reward, terminated, truncated and info.

        Raises:
            ResetNeeded: There is no running episode.
            ValueError: The action is not in the action space, or masked.
            ScorerError: The scorer failed and `on_scorer_error` is "raise".
        """
        if not self._episodes.running[0]:
            raise ResetNeeded("step() needs a running episode: call reset() first")
        token = np.asarray(action)
        if token.size != 1 or token.dtype.kind not in "iu":
            raise ValueError(f"action {action!r} is not a token id: pass one integer")
        step = self._episodes.step(token.reshape(1))
        outcome = step.outcomes.get(0)
        info = dict(outcome.info if outcome else step.infos.get(0, {}))
        self._add_mask(info)
        self._draw()
        return (
            self._episodes.row_observation(0),
            float(step.rewards[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            info,
        )

    def _add_mask(self, info: dict[str, Any]) -> None:
        masks = self._episodes.update_masks()
        if masks is not None:
            info["action_mask"] = masks[0].copy()

    def action_masks(self) -> np.ndarray:
        """Which actions are allowed now: bool `(V,)`, as MaskablePPO asks for."""
        return self._episodes.action_masks()[0]

    def render(self) -> Any:
        """The episode now, as the render mode says.

        Returns:
            Text ("ansi"); uint8 `(540, 960, 3)` ("rgb_array"); None
            ("human", which has printed it).

        Raises:
            gymnasium.error.DependencyNotInstalled: "rgb_array" without Pillow.
            ResetNeeded: There was no episode yet.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() needs a render mode: make the environment with render_mode='ansi' for "
                "text or 'rgb_array' for pictures"
            )
            return None
        return render(frame_of(self._episodes, 0), self.render_mode)

    def _draw(self) -> None:
        if self.render_mode == "human":
            show(as_text(frame_of(self._episodes, 0)) + "\n")

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue exactly: JSON-able, as far as the prompts' columns are.

        Returns:
            State for `set_state`: generator, place in the walk, tokens of the episode.
        """
        return {
            "rng": self.np_random.bit_generator.state,
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
        self.np_random = generator_from(state["rng"])
        return self._episodes.row_observation(0)

    def check_state(self, name: str, state: Any) -> None:
        """Raises `ValueError` unless `set_state` can continue from a state.

        Args:
            name: Of the state, for messages.
            state: The state.
        """
        record({"episodes": self._episodes.check_state, "rng": generator_state})(name, state)
