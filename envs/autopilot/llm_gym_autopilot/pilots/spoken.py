"""Pilots who hear the instruments and answer in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot import words
from llm_gym_autopilot.pilots.protocol import Pilot, PilotState

__all__ = ["Speaker", "SpokenPilot", "Translated"]


class Speaker(Protocol):
    """Whoever answers lines of instruments."""

    def answer(
        self, lines: Sequence[str], state: PilotState, episode_start: NDArray[Any] | None
    ) -> tuple[list[str], PilotState]:
        """Answers in words.

        Args:
            lines: What the instruments of N aeroplanes say (`llm_gym_autopilot.words`).
            state: What the last call returned; None before the first.
            episode_start: bool `(N,)`, whose flight begins with this line.

        Returns:
            An answer for each, and the state for the next call.
        """


class SpokenPilot:
    """Flies by words: it hears the instruments, and the controls hear what it answers.

    An answer that is not understood moves nothing.

    Args:
        speaker: Who answers.

    Attributes:
        heard: What the instruments said to the last decisions.
        said: What was answered.
        understood: How many decisions were understood, and how many there were.
    """

    discrete = False

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.heard: list[str] = []
        self.said: list[str] = []
        self.understood = np.zeros(2, dtype=np.int64)

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: PilotState = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], PilotState]:
        """Action for an observation, by way of words.

        Args:
            observation: float32 `(11,)` or `(N, 11)`.
            state: What the last call returned; None before the first.
            episode_start: bool `(N,)`, rows whose episode starts with this observation.
            deterministic: Of no consequence: the speaker knows how it chooses.

        Returns:
            Action float32 `(2,)` or `(N, 2)`, and the state for the next call.
        """
        seen = np.asarray(observation)
        batch = np.atleast_2d(seen)
        self.heard = words.lines_of(batch)
        self.said, state = self.speaker.answer(self.heard, state, episode_start)
        moves = [words.understand(answer) for answer in self.said]
        self.understood += sum(move is not None for move in moves), len(moves)
        action = words.action_of(batch, [move or words.Move(0, 0) for move in moves])
        return (action[0] if seen.ndim == 1 else action), state


class Translated:
    """A pilot of numbers who reads the line, flies by what it says, and answers in words.

    Args:
        pilot: Of stick and throttle, not of clicks.

    Raises:
        ValueError: It clicks.
    """

    def __init__(self, pilot: Pilot) -> None:
        if getattr(pilot, "discrete", False):
            raise ValueError(f"pilot={pilot!r} clicks: words need a pilot of stick and throttle")
        self.pilot = pilot

    def answer(
        self, lines: Sequence[str], state: PilotState, episode_start: NDArray[Any] | None
    ) -> tuple[list[str], PilotState]:
        """The words that come nearest to what the pilot does."""
        told = words.read_lines(lines)
        action, state = self.pilot.predict(told, state, episode_start)
        return [str(move) for move in words.move_to(told, action)], state
