"""What a language model learns from: a teacher's words in situations that either came into."""

from __future__ import annotations

import numpy as np
from llm_gym_autopilot import words
from llm_gym_autopilot.pilots import Translated, load_pilot
from llm_gym_autopilot.pilots.spoken import Speaker
from llm_gym_autopilot.vector import AutopilotVectorEnv

LESSON_SEED = 3_000_000  # far from the flights that are measured
WILDEST = 4  # clicks of a move that nobody meant


def lessons(
    teacher: str,
    flights: int,
    share: float,
    wildness: float,
    seed: int = 0,
    student: Speaker | None = None,
) -> list[tuple[str, str]]:
    """Lines of instruments with a teacher's answers.

    The pilot's hand slips now and then, in some flights more than in others, so that there is
    something to learn about situations that a good pilot never comes into.

    Args:
        teacher: A pilot of `llm_gym_autopilot.pilots` who remembers nothing.
        flights: Flown side by side, in up to moderate turbulence.
        share: Of all decisions that are kept.
        wildness: Mean share of decisions in which the controls hear a move of chance; what is
            learnt is the teacher's.
        seed: Of everything.
        student: Who flies, and comes into situations of its own; None has the teacher fly.

    Returns:
        Pairs of a line and the teacher's answer.
    """
    rng = np.random.default_rng(seed)
    env = AutopilotVectorEnv(flights, "navion", "mixed")
    observation, _ = env.reset(seed=LESSON_SEED + seed * flights)
    speaker, state = Translated(load_pilot(teacher)), None
    start = np.ones(flights, dtype=bool)
    slips = rng.uniform(0, 2 * wildness, flights)
    pairs: list[tuple[str, str]] = []
    for _ in range(300):
        lines = words.lines_of(observation)
        answers, state = speaker.answer(lines, state, start)
        for row in np.flatnonzero(rng.random(flights) < share).tolist():
            pairs.append((lines[row], answers[row]))
        flown = answers if student is None else student.answer(lines, None, start)[0]
        moves = [words.understand(answer) for answer in flown]
        for row in np.flatnonzero(rng.random(flights) < slips).tolist():
            moves[row] = words.Move(*rng.integers(-WILDEST, WILDEST + 1, 2).tolist())
        controls = words.action_of(observation, [move or words.Move(0, 0) for move in moves])
        observation, _, terminated, truncated, _ = env.step(controls)
        start = terminated | truncated
    env.close()
    return pairs
