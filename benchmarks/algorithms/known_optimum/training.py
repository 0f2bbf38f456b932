"""One run: an algorithm learns on a problem whose optimum is known, and is watched exactly."""

from __future__ import annotations

import math
import tempfile
import time
from typing import Any

import gymnasium as gym
import torch
from llm_gym_known_optimum import KnownOptimum
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.algorithms.building import build, why_absent
from benchmarks.algorithms.known_optimum.settings import Budget, Task
from benchmarks.algorithms.settings import Entry

_WATCHED = ("train/clip_fraction", "train/approx_kl")


def why_not(entry: Entry, budget: Budget) -> str | None:
    """Why an algorithm cannot run, known before it starts; None if it can."""
    reason = why_absent(entry.label, entry.algorithm, entry.needs)
    if reason is not None:
        return reason
    if budget.rows % entry.group_size:
        return (
            f"{entry.label} compares {entry.group_size} answers to a prompt, which does not divide "
            f"{budget.rows} rows"
        )
    return None


def make_problem(task: Task, seed: int) -> KnownOptimum:
    """The problem of a seed: rewards and reference model."""
    return KnownOptimum.make(
        task.family,
        vocab_size=task.vocab_size,
        length=task.length,
        num_prompts=task.num_prompts,
        beta=task.beta,
        reference=task.reference,
        problem_seed=seed,
    )


def make_algorithm(
    entry: Entry, problem: KnownOptimum, rows: int, seed: int, **changes: Any
) -> BaseAlgorithm:
    """The algorithm of an entry on the environment of a problem.

    Args:
        entry: The algorithm and its arguments.
        problem: What it learns on; its reference model is what it starts from.
        rows: Episodes at a time.
        seed: Seed of everything random.
        **changes: Arguments that take the place of the entry's.
    """
    env = gym.make_vec(
        "llm_gym/KnownOptimum-v0",
        num_envs=rows,
        autoreset_mode="SameStep",
        group_size=entry.group_size,
        problem=problem,
    )
    with tempfile.TemporaryDirectory() as directory:
        return build(
            entry,
            env,
            problem.save_reference(directory),
            beta=problem.beta,
            length=problem.tree.length,
            seed=seed,
            **changes,
        )


class Watch(BaseCallback):
    """Evaluates the policy exactly now and then; what that takes is not counted.

    Attributes:
        points: Evaluations with the samples and CPU seconds spent until then.
        logged: What the algorithm logged of each update, by name.
    """

    def __init__(self, problem: KnownOptimum, episodes: int, evaluations: int) -> None:
        super().__init__()
        self.problem = problem
        self.every = max(1, episodes // evaluations)
        self.points: list[dict[str, float]] = []
        self.logged: dict[str, list[float]] = {}
        self.episodes, self.idle = 0, 0.0

    def _on_training_start(self) -> None:
        self.started = time.process_time()

    def _on_rollout_start(self) -> None:
        for name in _WATCHED:
            if name in self.model.logger.name_to_value:
                self.logged.setdefault(name, []).append(self.model.logger.name_to_value[name])
        if not self.points or self.episodes >= self.points[-1]["episodes"] + self.every:
            self.note()

    def _on_step(self) -> bool:
        dones = self.locals.get("dones")
        self.episodes += 0 if dones is None else int(sum(dones))
        return True

    def note(self) -> None:
        """Evaluates now."""
        paused = time.process_time()
        evaluation = self.problem.evaluate(self.model.policy).as_dict()
        spent = paused - self.started - self.idle
        self.points.append({"episodes": self.episodes, "cpu_seconds": spent, **evaluation})
        self.idle += time.process_time() - paused


def train(job: dict[str, Any]) -> dict[str, Any]:
    """One run from beginning to end.

    Args:
        job: `entry`, `task`, `budget` and `seed`.

    Returns:
        The curve, its last point, and what was logged of updates.

    Raises:
        ValueError: A figure is not finite.
    """
    entry, task, budget, seed = (job[name] for name in ("entry", "task", "budget", "seed"))
    problem = make_problem(task, seed)
    model: Any = make_algorithm(entry, problem, budget.rows, seed)
    watch = Watch(problem, budget.episodes, budget.evaluations)
    # Nothing is dumped in between: the last update's figures stay to be read.
    model.learn(budget.episodes * problem.tree.length, callback=watch, log_interval=None)
    watch.note()
    end = watch.points[-1]
    if not all(math.isfinite(value) for value in end.values()):
        raise ValueError(f"{entry.label} ended with figures that are not finite: {end}")
    return {
        "optimum": problem.optimal_objective,
        "reference": problem.reference_objective,
        "points": watch.points,
        "end": end,
        "logged": {name: float(torch.tensor(v).mean()) for name, v in watch.logged.items()},
    }
