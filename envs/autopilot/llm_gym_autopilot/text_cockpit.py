"""`llm_gym/TextCockpit-v0`: the cockpit in words."""

from __future__ import annotations

import string
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from llm_gym_autopilot import words
from llm_gym_autopilot.flight_env import FlightEnv
from llm_gym_autopilot.single import AutopilotEnv

__all__ = ["WRONG_COST", "TextCockpitEnv"]

WRONG_COST = 1.0  # as much as a step can pay


class TextCockpitEnv(gym.Env[str, str]):
    """Fly an aeroplane by words.

    ## Description
    The task of `llm_gym/Autopilot-v0` for those who read and write: the instruments are a line of
    text, the controls hear an answer. Seeds, starts, gusts, physics and ends are the same, so that
    pilots of numbers and of words can be compared flight by flight. A decision takes 0.2 s; a
    flight of 60 s is 300 turns.

    A world of turns for language models: as `world=` of `llm_gym/Turns-v0` every turn is a
    decision, and with `turns_in_context=1` each is read alone. That is a Markov decision process as
    sound as the one of numbers, because the line is the whole observation, up to its rounding.

    ## Observation Space
    `Text`: a line of ten readings, such as `low 230 climb 12 slow 21 speed 54 attack 24 up 31
    raising 6 power 54 back 12 throttle 55`. `llm_gym_autopilot.words` has the table. It will not
    change within this version.

    ## Action Space
    `Text`: `hold`, or `stick back N`, `stick forward N`, `throttle up N`, `throttle down N`, or one
    of the stick, a space and one of the throttle; N from 1 to 9, clicks of 0.4 degrees of elevator
    or 4 % of throttle. Exactly so: what is not understood moves nothing and costs 1.

    ## Rewards
    Those of `llm_gym/Autopilot-v0`, between 0 and 1 a step; 1 less for what is not understood.

    ## Starting State, Episode End
    Those of `llm_gym/Autopilot-v0`, with the same reset options.

    ## Information
    That of `llm_gym/Autopilot-v0`, and `understood`.

    ## Arguments
    | Argument | Values | Default |
    |---|---|---|
    | `aircraft` | "navion", or "c172p" with `jsbsim` | "navion" |
    | `turbulence` | "none", "light", "moderate", "severe", or "mixed" | "mixed" |
    | `jsbsim` | fly in JSBSim | False |
    | `render_mode` | "human", "rgb_array", "ansi" | None |

    ## Version History
    * v0: first version.
    """

    metadata: ClassVar[dict[str, Any]] = FlightEnv.metadata  # type: ignore[misc]

    def __init__(
        self,
        aircraft: str = "navion",
        turbulence: str = "mixed",
        jsbsim: bool = False,
        render_mode: str | None = None,
    ) -> None:
        kind: Any = AutopilotEnv
        if jsbsim:
            from llm_gym_autopilot.jsbsim_env import AutopilotJSBSimEnv

            kind = AutopilotJSBSimEnv
        self.flight: Any = kind(aircraft, turbulence, render_mode)
        self.render_mode = render_mode
        letters = string.ascii_lowercase + string.digits + " "
        self.observation_space = spaces.Text(len(words.LONGEST_LINE), charset=letters)
        self.action_space = spaces.Text(len("stick forward 9 throttle down 9"), charset=letters)
        self._observation = np.zeros((1, 11), dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Begins a flight.

        Args:
            seed: Of starts, targets and gusts.
            options: Those of `llm_gym/Autopilot-v0`.

        Returns:
            The line of instruments, and the info.
        """
        super().reset(seed=seed)
        observation, info = self.flight.reset(seed=seed, options=options)
        return self._read(observation), {**info, "understood": True}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Flies for 0.2 s.

        Args:
            action: What the pilot says.

        Returns:
            The line of instruments, reward, terminated, truncated (always False: a time limit is a
            wrapper's), info.

        Raises:
            TypeError: It is no text.
        """
        if not isinstance(action, str):
            raise TypeError(f"action={action!r} must be a str, such as 'stick back 2'")
        move = words.understand(action)
        still = words.Move(0, 0)
        controls = words.action_of(self._observation, [still if move is None else move])[0]
        observation, reward, terminated, truncated, info = self.flight.step(controls)
        cost = WRONG_COST if move is None else 0.0
        line = self._read(observation)
        return line, reward - cost, terminated, truncated, {**info, "understood": move is not None}

    def _read(self, observation: np.ndarray) -> str:
        self._observation = observation[None]
        return words.lines_of(self._observation)[0]

    def render(self) -> Any:
        """The cockpit, as `llm_gym/Autopilot-v0` draws it."""
        return self.flight.render()

    def close(self) -> None:
        """Closes the window, if there is one."""
        self.flight.close()
