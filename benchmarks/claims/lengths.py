"""Does an algorithm make wrong answers longer? A problem in which length has nothing to say.

An answer is right if its first word is, whatever follows and however long; so the expected gradient
of the expected reward in the length of an answer is zero. Dividing an answer's loss by its length,
as GRPO does, punishes a long wrong answer less for each of its tokens (Liu et al., 2503.20783,
section 3.1), which should make wrong answers longer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llm_gym_known_optimum import AnswerTree, KnownOptimum, make_reference

from benchmarks.algorithms.known_optimum.training import Watch, make_algorithm
from benchmarks.algorithms.settings import ENTRIES

WORDS, LENGTH = 4, 6
_LEARNING_RATE = 0.03  # so that wrong answers do not vanish at once


def make_length_problem(seed: int) -> KnownOptimum:
    """Right is what begins with word 0; answers end early with the reference's probability."""
    tree = AnswerTree(WORDS, LENGTH, ends_early=True)
    rewards = np.concatenate(
        [(tree.words(d)[:, 0] == 0).astype(float) if d else np.zeros(1) for d in range(LENGTH + 1)]
    )
    model = make_reference("tabular", tree, 1, spread=0.5, seed=seed)
    return KnownOptimum(tree, rewards, model, beta=1.0)


class WrongLengths(Watch):
    """Also notes the exact mean length of wrong answers."""

    def note(self) -> None:
        """Evaluates now."""
        super().note()
        with torch.no_grad():
            probabilities = self.problem.answer_probabilities(
                self.problem.policy(self.model.policy)
            )
        wrong = probabilities * (self.problem.rewards == 0)
        mean = float((wrong @ self.problem.tree.answer_lengths).sum() / wrong.sum())
        self.points[-1]["wrong_length"] = mean
        self.points[-1]["wrong"] = float(wrong.sum())


def measure_lengths(entry: str, seed: int, rows: int, rollouts: int) -> dict[str, Any]:
    """A trial: trains without a KL penalty and watches wrong answers.

    Args:
        entry: Name of the algorithm in `benchmarks.algorithms.settings.ENTRIES`.
        seed: Seed of problem and sampling.
        rows: Answers at a time.
        rollouts: How often.

    Returns:
        `wrong_lengths` and `wrong` (probability) at even steps, and `slope`: words gained
        per tenth of probability that wrong answers lost, by least squares.
    """
    problem, changes = make_length_problem(seed), {"kl_coef": 0.0, "learning_rate": _LEARNING_RATE}
    model: Any = make_algorithm(ENTRIES[entry], problem, rows, seed, **changes)
    episodes = rollouts * rows
    watch = WrongLengths(problem, episodes, 20)
    model.learn(episodes * LENGTH // 2, callback=watch, log_interval=None)
    watch.note()
    lengths = [point["wrong_length"] for point in watch.points]
    wrong = [point["wrong"] for point in watch.points]
    # As long as there are wrong answers to speak of.
    counted = [i for i, share in enumerate(wrong) if share > 0.02]
    slope = -0.1 * float(np.polyfit(np.take(wrong, counted), np.take(lengths, counted), 1)[0])
    return {"wrong_lengths": lengths, "wrong": wrong, "slope": slope}
