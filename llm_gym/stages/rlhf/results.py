"""All that a finished run has measured, read from its directory, and its summary."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llm_gym.stages.rlhf.measuring import ANSWERED, read_answers, two_judges
from llm_gym.stages.rlhf.optimising import read_looks
from llm_gym.stages.rlhf.records import STAGES, Places, Record, read_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm_gym.stages.rlhf.settings import RLHFConfig
    from llm_gym.statistics.resampling import Estimate

__all__ = ["Judged", "Results", "gather", "summarise"]


class Judged(NamedTuple):
    """The answers of one model to the held-out prompts.

    Attributes:
        rows: P rows of `measuring.read_answers`.
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
        looks: Looks of `optimising.read_looks`.
        rollouts: Rows of PPO's `metrics.jsonl`.
    """

    records: dict[str, Record]
    judged: dict[str, Judged]
    looks: list[dict[str, Any]]
    rollouts: list[dict[str, float]]

    def figures(self, stage: str) -> dict[str, Any]:
        """What a stage measured."""
        return self.records[stage].figures


def gather(settings: RLHFConfig, places: Places) -> Results:
    """Reads everything back, and asks the reward model about the answers of all stages.

    Raises:
        ValueError: Something is missing or damaged.
    """
    from llm_gym.feedback.reward_model import RewardModelScorer, spearman
    from llm_gym.runs.callbacks.history import read_rows

    records = {}
    for stage in STAGES:
        record = read_record(places, stage)
        if record is None:
            raise ValueError(f"stage {stage} in {places.root} is not finished")
        records[stage] = record
    scorer = RewardModelScorer(places.reward_model, device=settings.torch_device)
    judged = {}
    for stage in ANSWERED:
        rows = read_answers(places, stage)
        gold, reward = two_judges(scorer, rows)
        judged[stage] = Judged(rows, gold, reward, spearman(gold, reward))
    return Results(records, judged, read_looks(places), read_rows(places.ppo / "metrics.jsonl"))


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
    }


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
