"""What a language model learns from before it flies: a teacher's words in many situations."""

from __future__ import annotations

import numpy as np
from llm_gym_autopilot import words
from llm_gym_autopilot.pilots import Translated, load_pilot
from llm_gym_autopilot.vector import AutopilotVectorEnv

LESSON_SEED = 3_000_000  # far from the flights that are measured
WILDEST = 4  # clicks of a move that nobody meant


def lessons(
    teacher: str, flights: int, share: float, wildness: float, seed: int = 0
) -> list[tuple[str, str]]:
    """Lines of instruments with a teacher's answers.

    The teacher's hand slips now and then, in some flights more than in others, so that there is
    something to learn about situations that a good pilot never comes into.

    Args:
        teacher: A pilot of `llm_gym_autopilot.pilots`.
        flights: Flown side by side, in up to moderate turbulence.
        share: Of all decisions that are kept.
        wildness: Mean share of decisions in which the controls hear a move of chance; what is
            learnt is the teacher's.
        seed: Of everything.

    Returns:
        Pairs of a line and an answer.
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
        moves = [words.understand(answer) for answer in answers]
        for row in np.flatnonzero(rng.random(flights) < slips).tolist():
            moves[row] = words.Move(*rng.integers(-WILDEST, WILDEST + 1, 2).tolist())
        controls = words.action_of(observation, [move or words.Move(0, 0) for move in moves])
        observation, _, terminated, truncated, _ = env.step(controls)
        start = terminated | truncated
    env.close()
    return pairs
