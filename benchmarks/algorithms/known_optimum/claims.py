"""Published claims that can be tested small, and their verdicts, whichever way they go."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.algorithms.statistics import Floats, improvement
from benchmarks.common import mean_with_interval

Run = dict[str, Any]

CONFIRMED, CONSISTENT, CONTRADICTED = "confirmed", "not contradicted", "contradicted"


def judge(
    scores: dict[str, Floats], runs: list[Run], lengths: list[Run], penalties: list[Run]
) -> dict[str, dict[str, Any]]:
    """Every claim for which there are runs.

    Args:
        scores: Gain, `(seeds, tasks)` by algorithm.
        runs: Training runs.
        lengths: Runs of `measure_lengths`.
        penalties: Runs of `measure_kl_gradient`.
    """
    claims: dict[str, dict[str, Any]] = {}
    if {"rloo_4", "rloo_2", "raft"} <= set(scores):
        claims["rloo"] = ranking(
            "RLOO(4) >= RLOO(2) >= RAFT at equal samples (2402.14740)",
            scores,
            [("rloo_4", "rloo_2"), ("rloo_2", "raft")],
        )
    lambdas = [name for name in ("ppo", "ppo_lambda_05", "ppo_lambda_0") if name in scores]
    if "ppo_lambda_1" in scores and lambdas:
        claims["lambda"] = ranking(
            "lambda = 1 is best for language, where the reward comes at the end (2402.14740)",
            scores,
            [("ppo_lambda_1", name) for name in lambdas],
        )
    if {run["algorithm"] for run in lengths} >= {"grpo", "dr_grpo"}:
        claims["length"] = wrong_answers(lengths)
    clipped = [
        run["logged"]["train/clip_fraction"]
        for run in runs
        if run["algorithm"] == "ppo" and "train/clip_fraction" in run["logged"]
    ]
    if clipped:
        claims["clip"] = clipping(clipped)
    if "k1 in the loss" in {run["variant"] for run in penalties}:
        claims["kl_in_loss"] = penalty_gradients(penalties)
    return claims


def ranking(claim: str, scores: dict[str, Floats], pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """A claim that X is at least as good as Y: by the probability that a run of X is better."""
    improvements = improvement(scores, pairs)
    means = {name: float(scores[name].mean()) for pair in pairs for name in pair}
    if any(interval["high"] < 0.5 for interval in improvements.values()):
        verdict = CONTRADICTED
    else:
        sure = all(interval["low"] > 0.5 for interval in improvements.values())
        verdict = CONFIRMED if sure else CONSISTENT
    return {"claim": claim, "verdict": verdict, "pairs": improvements, "mean_gain": means}


def wrong_answers(runs: list[Run]) -> dict[str, Any]:
    """GRPO lengthens wrong answers, Dr. GRPO does not: slopes with intervals over seeds."""
    slopes = {
        name: mean_with_interval([run["slope"] for run in runs if run["algorithm"] == name])
        for name in ("grpo", "dr_grpo")
    }
    grpo, dr = slopes["grpo"], slopes["dr_grpo"]
    if grpo["low"] is None or dr["low"] is None:
        verdict = CONSISTENT  # too few seeds to say more
    elif grpo["low"] > 0 and (dr["low"] <= 0 or dr["mean"] < 0.2 * grpo["mean"]):
        verdict = CONFIRMED
    elif grpo["high"] < 0 or dr["low"] > grpo["high"]:
        verdict = CONTRADICTED
    else:
        verdict = CONSISTENT
    return {
        "claim": "GRPO lengthens wrong answers and Dr. GRPO does not (2503.20783)",
        "verdict": verdict,
        "words_gained_per_tenth_of_probability_lost": slopes,
    }


def clipping(fractions: list[float]) -> dict[str, Any]:
    """PPO's clip does something to less than a twentieth of the tokens."""
    fraction = mean_with_interval(fractions)
    if fraction["low"] is None or fraction["low"] <= 0.05 <= fraction["high"]:
        verdict = CONSISTENT
    else:
        verdict = CONFIRMED if fraction["high"] < 0.05 else CONTRADICTED
    return {
        "claim": "the clip is active in under 5 % of PPO's tokens (2402.14740)",
        "verdict": verdict,
        "clip_fraction": {**fraction, "most": float(np.max(fractions))},
    }


def penalty_gradients(runs: list[Run]) -> dict[str, Any]:
    """k1 in the loss has no expected gradient; of the others, how much of the right one."""
    scales: dict[str, dict[str, float]] = {}
    for variant in dict.fromkeys(run["variant"] for run in runs):
        of_variant = [run for run in runs if run["variant"] == variant]
        error = np.sqrt(np.sum([run["scale_error"] ** 2 for run in of_variant])) / len(of_variant)
        scales[variant] = {
            "scale": float(np.mean([run["gradient"]["scale"] for run in of_variant])),
            "error": float(error),
        }
        if variant != "k1 in the loss":  # which has no direction
            biases = [run["gradient"]["direction_bias"] for run in of_variant]
            scales[variant]["direction_bias"] = float(np.mean(biases))
    zero = scales["k1 in the loss"]
    nothing = abs(zero["scale"]) < max(3 * zero["error"], 0.01) and zero["error"] < 0.2
    return {
        "claim": "the KL penalty as k1 in the loss has zero expected gradient (2512.21852)",
        "verdict": CONFIRMED if nothing else CONTRADICTED,
        "share_of_the_exact_gradient": scales,
    }
