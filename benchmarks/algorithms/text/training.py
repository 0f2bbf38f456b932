"""One run on a task of text: an algorithm learns, and answers held-out prompts now and then."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.algorithms.building import build, named
from benchmarks.algorithms.settings import Entry
from benchmarks.algorithms.text.settings import TextBudget, TextEntry, TextTask
from llm_gym.language_models.loading import load_causal_lm
from llm_gym.runs.callbacks import CriticStart
from llm_gym.runs.evaluation import evaluate, sequence_kl
from llm_gym.stages.by_name import environment_kwargs


def why_left_out(name: str, task: TextTask, data: Path | None) -> str | None:
    """Why a task cannot be run at all; None if it can."""
    missing = [package for package in task.needs if importlib.util.find_spec(package) is None]
    if missing:
        return f"{name} is left out: {', '.join(missing)} is not installed (envs/reasoning)"
    if task.needs_data and data is None:
        return f"{name} is left out: it needs a text, --data FILE"
    return None


def why_not_on_text(entry: Entry, task_name: str, task: TextTask) -> str | None:
    """Why an algorithm cannot run on a task of text, known before it starts; None if it can."""
    if task.rows % entry.group_size:
        return (
            f"{entry.label} compares {entry.group_size} answers to a prompt, which does not divide "
            f"the {task.rows} rows of {task_name}"
        )
    return None


def model_of(task: TextTask, folder: Path | None) -> str:
    """Name or path of the model that a task trains."""
    return task.model or str(Path(folder or ".") / "model")


def task_arguments(task: TextTask, folder: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the environment for training, and for measuring on held-out prompts.

    Args:
        task: Names environment, scorer and model.
        folder: Where its model was made, if it was.
    """
    shared = environment_kwargs(task.env, model_of(task, folder), **dict(task.environment))
    if task.scorer is not None:
        shared["scorer"] = named(task.scorer)(folder)
    path = None if folder is None else folder / "prompts.json"
    if path is None or not path.exists():
        return {**shared, "split": "train"}, {**shared, "split": "test"}
    prompts = json.loads(path.read_text(encoding="utf-8"))
    return (
        {**shared, "prompts": prompts["training"]},
        {**shared, "prompts": prompts["measuring"]},
    )


class HeldOut(BaseCallback):
    """Answers the held-out prompts now and then; what that takes is not counted.

    The divergence is that of the bare model: NLPO's mask is not in it. The objective, score less
    the price of the divergence, is what algorithms with a penalty maximise.

    Attributes:
        points: Evaluations with the tokens and CPU seconds spent until then.
    """

    def __init__(self, job: dict[str, Any], measuring: dict[str, Any], tokens: int) -> None:
        super().__init__()
        budget: TextBudget = job["budget"]
        self.task: TextTask = job["task"]
        self.seed, self.most = job["seed"], budget.measured_prompts
        self.measuring = measuring
        self.reference = load_causal_lm(model_of(self.task, job["folder"])).eval()
        self.every = max(1, tokens // max(budget.evaluations - 1, 1))
        self.points: list[dict[str, float]] = []
        self.idle = 0.0

    def _on_training_start(self) -> None:
        self.started = time.process_time()

    def _on_rollout_start(self) -> None:
        if not self.points or self.num_timesteps >= self.points[-1]["tokens"] + self.every:
            self.note()

    def _on_step(self) -> bool:
        return True

    def note(self) -> None:
        """Evaluates now."""
        paused = time.process_time()
        policy: Any = self.model.policy
        policy.set_training_mode(False)
        evaluation = evaluate(
            self.model,
            self.task.env,
            env_kwargs=self.measuring,
            max_prompts=self.most,
            seed=self.seed,
        )
        with torch.no_grad():
            kl = sequence_kl(policy.model, self.reference, evaluation.rows)
        self.points.append(
            {
                "tokens": int(self.model.num_timesteps),
                "cpu_seconds": paused - self.started - self.idle,
                "score": evaluation.mean_score,
                "kl_to_reference": kl,
                "objective": evaluation.mean_score - self.task.beta * kl,
                "length": evaluation.mean_length,
                "share_ended": evaluation.share_ended,
            }
        )
        self.idle += time.process_time() - paused


def train_on_text(job: dict[str, Any]) -> dict[str, Any]:
    """One run from beginning to end.

    Args:
        job: `entry`, `task`, `budget`, `seed`, `folder` and `kind`: a run that chooses
            a learning rate (`"text-tune"`) answers prompts of training, not those held out.

    Returns:
        The curve, and its first and last point as `start` and `end`.

    Raises:
        ValueError: A figure is not finite.
    """
    entry: TextEntry = job["entry"]
    task: TextTask = job["task"]
    training, measuring = task_arguments(task, job["folder"])
    if job["kind"] == "text-tune":
        measuring = training
    env = gym.make_vec(
        task.env,
        num_envs=task.rows,
        autoreset_mode="SameStep",
        group_size=entry.group_size,
        **training,
    )
    model: Any = build(
        entry,
        env,
        model_of(task, job["folder"]),
        beta=task.beta,
        length=env.unwrapped.max_new_tokens,  # type: ignore[attr-defined]
        seed=job["seed"],
        decay=False,  # of some twenty rollouts the last would be for nothing
    )
    watch = HeldOut(job, measuring, task.tokens)
    callbacks: list[BaseCallback] = [watch]
    if entry.critic_start:
        callbacks.append(CriticStart())
    model.learn(task.tokens, callback=callbacks, log_interval=None)
    watch.note()
    end = watch.points[-1]
    if not all(math.isfinite(value) for value in end.values()):
        raise ValueError(f"{entry.label} ended with figures that are not finite: {end}")
    return {"points": watch.points, "start": watch.points[0], "end": end}
