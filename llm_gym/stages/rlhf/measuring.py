"""What the model of a stage writes to the held-out prompts, and what both judges say of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.files import atomic

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from llm_gym.feedback.reward_model import RewardModelScorer
    from llm_gym.learning.ppo import PPO
    from llm_gym.runs.evaluation import Evaluation
    from llm_gym.stages.rlhf.records import Places
    from llm_gym.stages.rlhf.settings import RLHFConfig

__all__ = [
    "ANSWERED",
    "answer_held_out",
    "held_out_env",
    "judge_against_gold",
    "read_answers",
    "two_judges",
]

ANSWERED = ("pretrain", "sft", "ppo")
"""Stages that end with a model whose answers are kept."""


def held_out_env(settings: RLHFConfig, places: Places, model: str) -> dict[str, Any]:
    """Arguments of a text environment on the held-out prompts, judged by the gold scorer.

    Args:
        settings: Settings of the run.
        places: Places of the run.
        model: Whose tokenizer is used.
    """
    from llm_gym.stages.names import TEXT_GENERATION, environment_kwargs

    return environment_kwargs(
        TEXT_GENERATION,
        model,
        scorer=settings.true_rater,
        device=settings.device,
        prompts=str(places.prompts("held-out")),
        prompt_template=settings.prompt_template,
        max_new_tokens=settings.max_new_tokens,
        on_max_length="terminate",  # every answer is judged, also one that is cut off
    )


def answer_held_out(
    settings: RLHFConfig, places: Places, stage: str, model: str | Path | PPO
) -> tuple[Evaluation, dict[str, float]]:
    """Lets the model of a stage answer the held-out prompts, and keeps what it wrote.

    Args:
        settings: Settings of the run.
        places: The answers go to `places.answers(stage)`.
        stage: One of `ANSWERED`.
        model: Name, directory, or the algorithm that trained it.

    Returns:
        The evaluation, and its figures: mean `gold` score with `gold_low` and `gold_high`, mean
        `length` in tokens, share of answers that `ended` by themselves.
    """
    from llm_gym.runs.evaluation import evaluate

    tokenizer_of = str(model) if not hasattr(model, "policy") else str(places.sft)
    found = evaluate(
        model,
        held_out_env(settings, places, tokenizer_of),
        seed=settings.seed,
        device=settings.torch_device,
    )
    atomic.write_json(places.answers(stage), found.to_dict())
    return found, {
        "gold": found.mean_score,
        "gold_low": found.low,
        "gold_high": found.high,
        "length": found.mean_length,
        "ended": found.share_ended,
    }


def read_answers(places: Places, stage: str) -> list[dict[str, Any]]:
    """The rows of `answer_held_out`: `prompt`, `completion`, `score` (gold), `tokens`.

    Raises:
        ValueError: The file is missing or damaged.
    """
    path = places.answers(stage)
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); delete {places.record(stage)} to answer again"
        ) from error
    return rows


def two_judges(
    scorer: RewardModelScorer, rows: list[dict[str, Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gold score and reward of every answer.

    Args:
        scorer: The reward model.
        rows: P rows of `read_answers`.

    Returns:
        gold and reward, float64 `(P,)` each.
    """
    prompts, answers = ([row[name] for row in rows] for name in ("prompt", "completion"))
    gold = np.array([row["score"] for row in rows], dtype=np.float64)
    return gold, np.asarray(scorer.score(prompts, answers).values, dtype=np.float64)


def judge_against_gold(
    differences: NDArray[np.float64], gold_differences: NDArray[np.float64]
) -> float | None:
    """How often the reward model prefers the answer with the higher gold score.

    Args:
        differences: Rewards of one answer less that of another, float `(N,)`.
        gold_differences: The same of the gold score.

    Returns:
        The share among pairs of different gold scores; equal rewards count half. None if there is
        no such pair.
    """
    different = gold_differences != 0
    if not different.any():
        return None
    agreeing = np.sign(differences[different]) * np.sign(gold_differences[different])
    return float(np.mean((agreeing + 1) / 2))
