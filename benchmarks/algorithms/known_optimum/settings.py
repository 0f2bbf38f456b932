"""Problems whose optimum is known, and how much of everything, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

KNOWN = "known-optimum"
"""The kind of tasks, as `--only` takes it."""

LEARNING_RATES = (0.01, 0.03, 0.1, 0.3)
"""What tuning tries for every algorithm alike; rates fall linearly to zero over a run."""

SAME_ON_TABLES = ("ppo_separate", "ppo_detached")
"""Entries that cannot differ from PPO where the policy is a table: run there only if asked for."""


@dataclass(frozen=True)
class Task:
    """A problem whose optimum is known.

    Attributes:
        family: Family of rewards, see `llm_gym_known_optimum.draw_rewards`.
        vocab_size: Number of words that answers are made of.
        length: Most words of an answer.
        num_prompts: Number of prompts, each with rewards of its own.
        beta: Price of a nat.
        reference: Kind of the reference model.
    """

    family: str
    vocab_size: int = 4
    length: int = 4
    num_prompts: int = 2
    beta: float = 0.1
    reference: str = "tabular"


@dataclass(frozen=True)
class Budget:
    """How much of everything; the same for every algorithm.

    Attributes:
        seeds: Runs of each algorithm on each task, each on a problem of its own.
        first_seed: First seed of the runs, far from those of tuning.
        rows: Episodes sampled at a time.
        episodes: Episodes of a run.
        evaluations: Times the policy is evaluated exactly, spread evenly over a run.
        gradient_rollouts: Rollouts that the gradient estimator is measured on; 0 is not at all.
        gradient_seeds: Problems that it is measured on.
        probe_warmup: Rollouts before, in which a critic learns while the policy stays.
        tuning_seeds: Problems that each learning rate was tried on.
    """

    seeds: int = 10
    first_seed: int = 0
    rows: int = 512
    episodes: int = 128_000
    evaluations: int = 40
    gradient_rollouts: int = 200
    gradient_seeds: int = 3
    probe_warmup: int = 60
    tuning_seeds: int = 2

    def quick(self) -> Budget:
        """Everything there is, in ten minutes on two cores."""
        return replace(
            self,
            seeds=2,
            rows=128,
            episodes=12_800,
            evaluations=10,
            gradient_rollouts=40,
            gradient_seeds=1,
            probe_warmup=20,
            tuning_seeds=1,
        )


TASKS = {
    family: Task(family) for family in ("additive", "interaction", "length", "sparse", "unique")
}


def of_a_run(budget: Budget) -> dict[str, Any]:
    """The part of a budget that a single run depends on."""
    whole = asdict(budget)
    for name in ("seeds", "first_seed", "gradient_seeds", "tuning_seeds"):
        del whole[name]
    return whole
