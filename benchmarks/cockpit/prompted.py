"""A model that nobody has trained to fly, and what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llm_gym_autopilot import words

_TOLD = """\
You fly an aeroplane. Answer with one command and nothing else: hold, stick back N, \
stick forward N, throttle up N or throttle down N, where N is from 1 to 9. \
Stick back raises the nose and makes you climb, throttle up makes you faster.
low 80 climb 0 slow 5 speed 54: stick back 2
high 120 climb 3 fast 2 speed 54: stick forward 2
low 3 climb 1 slow 40 speed 50: throttle up 4
low 2 climb 0 fast 1 speed 54: hold
{line}:"""


def question() -> str:
    """What the model is told at every decision, with `{line}` for the instruments."""
    return _TOLD


class Sparing:
    """Asks a slow speaker once in so many decisions, and holds in between.

    Args:
        speaker: Who is asked.
        every: Decisions from one question to the next.

    Attributes:
        said: All that was answered.
        understood: How many answers were understood, and how many there were.
    """

    def __init__(self, speaker: Any, every: int) -> None:
        self.speaker, self.every = speaker, every
        self.said: list[str] = []
        self.understood = np.zeros(2, dtype=np.int64)

    def answer(self, lines: Sequence[str], state: Any, episode_start: Any) -> tuple[list[str], Any]:
        """As the speaker's, now and then; the state is the number of the decision."""
        number = 0 if state is None else int(state[0])
        answers = [words.HOLD] * len(lines)
        if number % self.every == 0:
            answers, _ = self.speaker.answer(lines, None, episode_start)
            answers = [answer.strip().lower().rstrip(".") for answer in answers]
            self.said += answers
            heard = sum(words.understand(answer) is not None for answer in answers)
            self.understood += heard, len(answers)
        return answers, (np.array(number + 1),)
