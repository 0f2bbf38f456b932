"""One run on the autopilot: a stock algorithm learns, and flies held-out episodes now and then."""

from __future__ import annotations

import copy
import io
import math
from typing import Any

import numpy as np
from rich.console import Console
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise

from benchmarks.algorithms.building import named
from benchmarks.algorithms.flight.settings import FlightBudget, FlightEntry
from benchmarks.autopilot.entries import LEVELS
from llm_gym.runs.callbacks import History

MEASURES = ("return", "success", "stick")
"""What `llm_gym_autopilot.training.TrainingWatch` notes of each level."""


def make_flyer(entry: FlightEntry, seed: int) -> Any:
    """The algorithm of an entry on many aeroplanes, in no, light and moderate turbulence.

    A model of Stable-Baselines3, as yet untrained.

    Args:
        entry: The algorithm and its arguments.
        seed: Seed of everything random.
    """
    from agents.sac_autopilot import Config, make_env  # the environment as it stands

    env = make_env(Config(num_envs=entry.rows))
    arguments = copy.deepcopy(entry.arguments)  # the libraries write into policy_kwargs
    if entry.noise is not None:
        moves = env.action_space.shape or ()
        arguments["action_noise"] = NormalActionNoise(np.zeros(moves), np.full(moves, entry.noise))
    rate = entry.learning_rate
    return named(entry.algorithm)(
        "MlpPolicy",
        env,
        learning_rate=lambda left: rate * max(left, 0.02),
        seed=seed,
        device="cpu",
        **arguments,
    )


def point_of(row: dict[str, float]) -> dict[str, float]:
    """A point of the curve from a row of the log: by level, and means over levels.

    Args:
        row: `step`, `time/cpu_seconds`, and each of `MEASURES` at each of `LEVELS`.

    Raises:
        ValueError: A figure is missing, as it is where it was not finite.
    """
    names = {measure: [f"{measure}/{level}" for level in LEVELS] for measure in MEASURES}
    by_level = [name for of_measure in names.values() for name in of_measure]
    required = ["time/cpu_seconds", *by_level]
    missing = [name for name in required if not math.isfinite(row.get(name, math.nan))]
    if missing:
        raise ValueError(f"figures that are not finite after {row['step']} steps: {missing}")
    return {
        "steps": int(row["step"]),
        "cpu_seconds": row["time/cpu_seconds"],
        **{
            measure: float(np.mean([row[name] for name in of_measure]))
            for measure, of_measure in names.items()
        },
        **{name: row[name] for name in by_level},
    }


def train_to_fly(job: dict[str, Any]) -> dict[str, Any]:
    """One run from beginning to end.

    Args:
        job: `entry`, `budget` and `seed`.

    Returns:
        The curve, and its first and last point as `start` and `end`: steps, CPU seconds of
        learning, and return (0 to 300), share of successful flights (0 to 1) and stick movement
        (degrees a step), each by level of turbulence and as a mean over levels.

    Raises:
        ValueError: A figure is not finite.
    """
    from llm_gym_autopilot.training import TrainingWatch

    budget: FlightBudget = job["budget"]
    model = make_flyer(job["entry"], job["seed"])
    history = History()
    model.set_logger(Logger(None, [history]))
    with TrainingWatch(
        lambda learning: learning,  # a model has `predict`, as a pilot has
        every=max(1, budget.steps // max(budget.evaluations - 1, 1)),
        episodes=budget.flights,
        levels=LEVELS,
        console=Console(file=io.StringIO()),
    ) as watch:
        model.learn(budget.steps, callback=watch, log_interval=None)
    points = [point_of(row) for row in history.rows]
    return {"points": points, "start": points[0], "end": points[-1]}
