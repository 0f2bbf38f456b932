"""One training: RLOO with an adapter on the proxy, looked at on held-out prompts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.real_rlhf.prompts import Task, names_subject, tasks
from benchmarks.real_rlhf.settings import Settings
from llm_gym.files.atomic import write_json

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from llm_gym import RLOO
    from llm_gym.scorers import Scorer
    from llm_gym.text.answer import Answer

CHECKPOINTS = "checkpoints"


class Training(NamedTuple):
    """What one training left behind.

    Attributes:
        updates: Of each rollout: proxy, gold, KL, length and entropy (`GoldProxyCallback`).
        looks: Of each look at held-out prompts, see `HeldOut`.
    """

    updates: list[dict[str, Any]]
    looks: list[dict[str, Any]]


class HeldOut:
    """Answers held-out prompts with the model as it is; what an alarm measures by.

    Every look is a file `look-STEP.json` with the scores of each judge, one a prompt, and what no
    judge says: the answers' perplexity under the base (at temperature 1), their length in tokens,
    the shares that ended by themselves, named their subject, and are different from all others;
    the first answers themselves; and the seconds of CPU since the look before.

    Args:
        tasks: The held-out tasks.
        judges: By name, "proxy" and "gold" among them.
        settings: Of the benchmark.
        environment: What else the text environment needs.
        directory: Gets the files.
    """

    def __init__(
        self,
        tasks: list[Task],
        judges: Mapping[str, Scorer],
        settings: Settings,
        environment: dict[str, Any],
        directory: Path,
    ) -> None:
        self._tasks, self._judges, self._settings = tasks, judges, settings
        prompts = [task.prompt for task in tasks]
        self._environment = {**environment, "prompts": prompts, "scorer": judges["proxy"]}
        self._directory = directory
        self._since = time.process_time()

    def __call__(self, algorithm: BaseAlgorithm) -> tuple[np.ndarray, np.ndarray]:
        """Gold and proxy scores of an answer to each prompt, float64 `(P,)` each."""
        from llm_gym.runs.evaluation import evaluate, perplexity_under

        evaluation = evaluate(
            algorithm, self._environment, num_envs=len(self._tasks), seed=self._settings.seed
        )
        scores = self._scores(evaluation.rows)
        texts = [row.completion for row in evaluation.rows]
        named = [names_subject(task, text) for task, text in zip(self._tasks, texts, strict=True)]
        now = time.process_time()
        look = {
            "step": algorithm.num_timesteps,
            "scores": {name: values.tolist() for name, values in scores.items()},
            "perplexity": perplexity_under(algorithm.reference.model, evaluation.rows),  # type: ignore[attr-defined]
            "length": evaluation.mean_length,
            "ended": evaluation.share_ended,
            "names_subject": float(np.mean(named)),
            "distinct": len(set(texts)) / len(texts),
            "answers": texts[: self._settings.shown],
            "cpu_seconds": now - self._since,
        }
        self._since = now
        write_json(self._directory / _file_of(algorithm.num_timesteps), look)
        print(
            f"step {look['step']:>6,}: proxy {scores['proxy'].mean():.2f}, gold "
            f"{scores['gold'].mean():.2f}, {look['cpu_seconds']:.0f} s of CPU",
            flush=True,
        )
        return scores["gold"], scores["proxy"]

    def _scores(self, rows: tuple[Answer, ...]) -> dict[str, np.ndarray]:
        prompts, texts = [row.prompt for row in rows], [row.completion for row in rows]
        return {
            name: np.array(judge(prompts, texts), dtype=np.float64)
            for name, judge in self._judges.items()
        }


def train(
    settings: Settings, kl_coef: float, model: str, judges: Mapping[str, Scorer], directory: Path
) -> Training:
    """Trains from the start, or from the last checkpoint of an interrupted training.

    Args:
        settings: Of the benchmark.
        kl_coef: Price of divergence.
        model: Directory of the language model.
        judges: By name; "proxy" is trained on.
        directory: Of this training.
    """
    import warnings

    from stable_baselines3.common.logger import Logger

    from llm_gym.feedback.diagnostics import (
        GoldProxyCallback,
        OveroptimisationAlarm,
        OveroptimisationWarning,
    )
    from llm_gym.language_models import load_tokenizer
    from llm_gym.runs.callbacks import CheckpointCallback
    from llm_gym.runs.checkpoint import has_checkpoint, latest_checkpoint, load_checkpoint

    environment = {
        "tokenizer": load_tokenizer(model),
        "max_new_tokens": settings.max_new_tokens,
    }
    algorithm = _algorithm(settings, kl_coef, model, judges, environment)
    algorithm.set_logger(Logger(None, []))
    checkpoints = directory / CHECKPOINTS
    if has_checkpoint(checkpoints):
        load_checkpoint(algorithm, latest_checkpoint(checkpoints))
    held_out = tasks(settings.held_out_prompts, held_out=True)
    look = HeldOut(held_out, judges, settings, environment, directory)
    watch = GoldProxyCallback(directory)
    alarm = OveroptimisationAlarm(
        look,
        every=settings.look_every,
        planned_looks=settings.planned_looks,
        directory=directory,
    )
    # Looks come before checkpoints, so that a training that goes on has had the look of its start.
    callbacks = [watch, alarm, CheckpointCallback(checkpoints, every=settings.look_every)]
    with warnings.catch_warnings():
        warnings.simplefilter("default", OveroptimisationWarning)
        algorithm.learn(
            settings.tokens - algorithm.num_timesteps, callback=callbacks, reset_num_timesteps=False
        )
    looks = [_read(directory / _file_of(look.step)) for look in alarm.looks]
    return Training(watch.rows, looks)


def _algorithm(
    settings: Settings,
    kl_coef: float,
    model: str,
    judges: Mapping[str, Scorer],
    environment: dict[str, Any],
) -> RLOO:
    import llm_gym
    from llm_gym.feedback.diagnostics import GoldProxy

    env = llm_gym.TextGenerationVectorEnv(
        prompts=[task.prompt for task in tasks(settings.train_prompts, held_out=False)],
        scorer=GoldProxy(judges["proxy"], judges["gold"]),
        num_envs=settings.answers,
        group_size=settings.group_size,
        autoreset_mode="SameStep",
        **environment,
    )
    lora = {
        "r": settings.lora_rank,
        "lora_alpha": settings.lora_alpha,
        "target_modules": "all-linear",
    }
    return llm_gym.RLOO(
        "TransformerPolicy",
        env,
        learning_rate=settings.learning_rate,
        kl_coef=kl_coef,
        keep_groups=True,
        seed=settings.seed,
        policy_kwargs={
            "model": model,
            "temperature": settings.temperature,
            "lora": lora,
            "micro_batch_size": settings.micro_batch_size,
        },
    )


def _file_of(step: int) -> str:
    return f"look-{step:09d}.json"


def _read(path: Path) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
