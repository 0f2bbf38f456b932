"""What a run has measured: the answers to held-out prompts, what both judges say, the summary."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llm_gym.files import atomic, machine
from llm_gym.files.schema import (
    anything,
    list_of,
    number,
    parse_json,
    read_json,
    record,
    text,
    whole,
)
from llm_gym.runs.directory import Record
from llm_gym.stages.rlhf.bought import Bought, bought, figures_of
from llm_gym.stages.rlhf.directory import RLHFDirectory
from llm_gym.stages.rlhf.settings import STAGES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from llm_gym.feedback.preferences import Preference
    from llm_gym.feedback.reward_model import RewardModelScorer
    from llm_gym.runs.evaluation import Evaluation
    from llm_gym.statistics.resampling import Estimate

_WHOLE = 40  # characters; what is shorter says little to who reads it

ANSWERED = ("pretrain", "sft", "ppo")
"""Stages that end with a model whose answers are kept."""


def held_out_env(run: RLHFDirectory, model: str) -> dict[str, Any]:
    """Arguments of a text environment on the held-out prompts, judged by the gold scorer.

    Args:
        run: Directory of the run.
        model: Whose tokenizer is used.
    """
    from llm_gym.stages.by_name import TEXT_GENERATION, environment_kwargs

    return environment_kwargs(
        TEXT_GENERATION,
        model,
        scorer=run.config.true_rater,
        device=run.config.device,
        prompts=str(run.prompts("held-out")),
        **run.config.prompt_options() | {"prompt_column": None},
        prompt_template=run.config.prompt_template,
        max_new_tokens=run.config.max_new_tokens,
        on_max_length="terminate",  # every answer is judged, also one that is cut off
    )


def answer_held_out(
    run: RLHFDirectory, stage: str, model: str | Path | OnPolicyAlgorithm, *, quiet: bool = False
) -> tuple[Evaluation, dict[str, float]]:
    """Lets the model of a stage answer the held-out prompts, and keeps what it wrote.

    Args:
        run: Directory of the run; the answers go to `run.answers(stage)`.
        stage: One of `ANSWERED`.
        model: Name, directory, or the algorithm that trained it.
        quiet: No progress bar.

    Returns:
        The evaluation, and its figures: mean `gold` score with `gold_low` and `gold_high`, mean
        `length` in tokens, share of answers that `ended` by themselves.
    """
    from llm_gym.runs.evaluation import evaluate

    tokenizer_of = str(model) if not hasattr(model, "policy") else str(run.sft)
    evaluation = evaluate(
        model,
        held_out_env(run, tokenizer_of),
        policy_kwargs={} if hasattr(model, "policy") else {"dtype": run.config.dtype},
        seed=run.config.seed,
        device=run.config.torch_device,
        progress_bar=not quiet,
    )
    atomic.write_json(run.answers(stage), evaluation.to_dict())
    return evaluation, {
        "gold": evaluation.mean_score,
        "gold_low": evaluation.low,
        "gold_high": evaluation.high,
        "length": evaluation.mean_length,
        "ended": evaluation.share_ended,
    }


_ANSWER = record(
    {"prompt": text, "completion": text, "score": number(), "tokens": whole()}, others=anything
)


def read_answers(run: RLHFDirectory, stage: str) -> list[dict[str, Any]]:
    """The rows of `answer_held_out`: `prompt`, `completion`, `score` (gold), `tokens`.

    Raises:
        ValueError: The file is missing or damaged.
    """
    path = run.answers(stage)
    try:
        content = read_json(path)
        record({"rows": list_of(_ANSWER)}, others=anything)("", content)
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read ({error}); delete {run.record_path(stage)} to answer again"
        ) from error
    rows: list[dict[str, Any]] = content["rows"]
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


def read_looks(run: RLHFDirectory) -> list[dict[str, Any]]:
    """Gold score and reward on the held-out prompts in the course of training.

    Returns:
        Rows with `step` (tokens), `gold` and `proxy` (lists, one number a prompt) and `kl` (None
        before the first rollout), one a step.

    Raises:
        ValueError: The file is missing or damaged.
    """
    path = run.ppo / "watch" / "looks.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        looks = [parse_json(line, str(path)) for line in lines]
        # A run that was killed after its last checkpoint looks again; the first look knew the KL.
        return list({look["step"]: look for look in reversed(looks)}.values())[::-1]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); delete {run.record_path('ppo')} and {run.ppo} to "
            "train again"
        ) from error


class Judged(NamedTuple):
    """The answers of one model to the held-out prompts.

    Attributes:
        rows: P rows of `read_answers`.
        gold: float64 `(P,)`.
        reward: Reward of the reward model, float64 `(P,)`.
        correlation: Rank correlation of the two, with its interval.
    """

    rows: list[dict[str, Any]]
    gold: NDArray[np.float64]
    reward: NDArray[np.float64]
    correlation: Estimate


class Results(NamedTuple):
    """A finished run.

    Attributes:
        records: By stage.
        judged: By stage, of those whose models answered.
        looks: Looks of `read_looks`.
        rollouts: Rows of PPO's `metrics.jsonl`.
        bought: Features that raters may like, before PPO and after it.
        vote: A comparison that somebody decided; None if all votes were taken back.
    """

    records: dict[str, Record]
    judged: dict[str, Judged]
    looks: list[dict[str, Any]]
    rollouts: list[dict[str, float]]
    bought: list[Bought]
    vote: Preference | None

    def figures(self, stage: str) -> dict[str, Any]:
        """What a stage measured."""
        return self.records[stage].figures


def gather(run: RLHFDirectory) -> Results:
    """Reads everything back, and asks the reward model about the answers of all stages.

    Raises:
        ValueError: Something is missing or damaged.
    """
    from llm_gym.feedback.reward_model import RewardModelScorer, spearman
    from llm_gym.runs.callbacks.history import read_rows

    records = {}
    for stage in STAGES:
        record = run.record(stage)
        if record is None:
            raise ValueError(f"stage {stage} in {run.root} is not finished")
        records[stage] = record
    scorer = RewardModelScorer(run.reward_model, device=run.config.torch_device)
    judged = {}
    for stage in ANSWERED:
        rows = read_answers(run, stage)
        gold, reward = two_judges(scorer, rows)
        judged[stage] = Judged(rows, gold, reward, spearman(gold, reward))
    return Results(
        records,
        judged,
        read_looks(run),
        read_rows(run.ppo / "metrics.jsonl"),
        bought(judged["sft"].rows, judged["ppo"].rows),
        typical_vote(run.votes()),
    )


def typical_vote(votes: Sequence[Preference]) -> Preference | None:
    """A comparison to show: of those between two whole answers the one of middle length.

    Args:
        votes: Of them; None comes of none.
    """
    long = [vote for vote in votes if min(len(vote.chosen), len(vote.rejected)) >= _WHOLE]
    by_length = sorted(long or votes, key=lambda vote: len(vote.chosen) + len(vote.rejected))
    return by_length[len(by_length) // 2] if by_length else None


def summarise(results: Results) -> dict[str, Any]:
    """Flat, JSON-able figures without times: the same settings give the same summary."""
    from llm_gym.statistics.resampling import bootstrap_interval

    pretrain, sft, ppo = (results.figures(stage) for stage in ANSWERED)
    votes, reward = results.figures("compare"), results.figures("reward-model")
    before, after = results.judged["sft"], results.judged["ppo"]
    gain = after.gold - before.gold  # of each prompt, so that prompts do not count as noise
    low, high = bootstrap_interval(gain)
    return {
        "gold_pretrained": pretrain["gold"],
        "gold_sft": sft["gold"],
        "gold_sft_low": sft["gold_low"],
        "gold_sft_high": sft["gold_high"],
        "gold_rlhf": ppo["gold"],
        "gold_rlhf_low": ppo["gold_low"],
        "gold_rlhf_high": ppo["gold_high"],
        "gold_gain": float(gain.mean()),
        "gold_gain_low": low,
        "gold_gain_high": high,
        "held_out_prompts": len(gain),
        "pretrain_perplexity_before": pretrain["perplexity_before"],
        "pretrain_perplexity": pretrain["perplexity"],
        "sft_perplexity_before": sft["perplexity_before"],
        "sft_perplexity": sft["perplexity"],
        "comparisons": votes["comparisons"],
        "votes": votes["votes"],
        "ties": votes["ties"],
        "raters": votes["raters"],
        "rater_agreement": votes["agreement"],
        "rater_alpha": votes["alpha"],
        "labelling_hours": votes["hours"],
        "labelling_cost": votes["cost"],
        "reward_model_accuracy": reward["accuracy"],
        "reward_model_accuracy_low": reward["accuracy_low"],
        "reward_model_accuracy_high": reward["accuracy_high"],
        "reward_model_calibration_error": reward["calibration_error"],
        "reward_model_gold_accuracy": reward["gold_accuracy"],
        "votes_gold_accuracy": reward["votes_by_gold"],
        "reward_sft": float(before.reward.mean()),
        "reward_rlhf": float(after.reward.mean()),
        "correlation_sft": _defined(before.correlation.value),
        "correlation_rlhf": _defined(after.correlation.value),
        "tokens": ppo["tokens"],
        "kl": ppo["kl"],
        "perplexity_ratio": ppo["perplexity"] / sft["own_perplexity"],
        "length_sft": sft["length"],
        "length_rlhf": ppo["length"],
        **figures_of(results.bought),
        "threads": machine()["threads"],
    }


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
