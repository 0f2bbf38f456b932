"""One run: an algorithm learns on a problem whose optimum is known, and is watched exactly."""

from __future__ import annotations

import importlib
import importlib.util
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from llm_gym_known_optimum import KnownOptimum
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import Schedule

import llm_gym  # noqa: F401 - registers the environments
from benchmarks.algorithms.settings import BETA, Budget, Entry, Task
from llm_gym.learning.buffer import EpisodeBuffer
from llm_gym.learning.reference import ReferenceModel
from llm_gym.learning.vec_env import GymVecEnv

_WATCHED = ("train/clip_fraction", "train/approx_kl")


def named(path: str) -> Any:
    """The object at `"module:name"`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def why_absent(label: str, algorithm: str, needs: Sequence[str]) -> str | None:
    """Why an algorithm cannot be imported; None if it can."""
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        return f"{label} needs {', '.join(missing)}, which is not installed"
    try:
        named(algorithm)
    except (ImportError, AttributeError) as error:
        return f"{label} is not there: {error}"
    return None


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
        entry: Which.
        problem: On what.
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


def build(
    entry: Entry,
    env: gym.vector.VectorEnv,
    language_model: str | Path,
    *,
    beta: float,
    length: int,
    seed: int,
    decay: bool = True,
    **changes: Any,
) -> BaseAlgorithm:
    """The algorithm of an entry on an environment.

    Args:
        entry: Which.
        env: Env of text, in groups as the entry wants them.
        language_model: Name or path of the model to train.
        beta: Price of a nat, for `"$beta"`.
        length: Most tokens of an answer: a rollout of stock algorithms.
        seed: Seed of everything random.
        decay: Whether the learning rate falls to zero.
        **changes: Arguments that take the place of the entry's.
    """
    price = beta if entry.kl_start == 1 else _falling(entry.kl_start * beta, beta)
    arguments = {
        name: _filled_in(value, price if name == "kl_coef" else beta)
        for name, value in {**entry.arguments, **changes}.items()
    }
    stock = not entry.algorithm.startswith("llm_gym")
    if stock:
        arguments.setdefault("n_steps", length)
    rate = arguments.pop("learning_rate", entry.learning_rate)
    policy = "TransformerPolicy"
    if stock:
        policy = named(entry.policy_class or "llm_gym:TransformerActorCriticPolicy")
    model = named(entry.algorithm)(
        policy,
        GymVecEnv(env) if stock else env,
        learning_rate=(lambda left: rate * left) if decay else rate,
        policy_kwargs={"model": str(language_model), **entry.policy},
        seed=seed,
        **arguments,
    )
    if entry.penalise:
        model.rollout_buffer.before_returns = KLPenalty(model, price)
    return model


def _falling(start: float, end: float) -> Schedule:
    """From start to end over the first half of training."""
    return lambda remaining: end + (start - end) * max(0.0, 2 * remaining - 1)


def _filled_in(value: Any, beta: float | Schedule) -> Any:
    if value == BETA:
        return beta
    return named(value) if isinstance(value, str) and ":" in value else value


class KLPenalty:
    """Subtracts `beta * (log pi - log pi_ref)` from every token's reward of a rollout.

    Args:
        model: Whose policy, as it is now, is the reference.
        beta: Price of a nat, or a schedule of it.
    """

    def __init__(self, model: Any, beta: float | Schedule) -> None:
        self.model, self.reference, self.beta = model, ReferenceModel.of(model.policy), beta

    def __call__(self, buffer: EpisodeBuffer) -> None:
        """See the argument `before_returns` of `EpisodeBuffer`."""
        segments = buffer.segments()
        places = buffer.places(segments)
        theirs = self.reference.log_probs(buffer.episode_batch(segments)).numpy()
        beta = self.beta
        if callable(beta):
            beta = beta(1 - self.model.num_timesteps / self.model._total_timesteps)
        buffer.rewards[places] -= beta * (buffer.log_probs[places] - theirs)


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
        found = self.problem.evaluate(self.model.policy).as_dict()
        spent = paused - self.started - self.idle
        self.points.append({"episodes": self.episodes, "cpu_seconds": spent, **found})
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
