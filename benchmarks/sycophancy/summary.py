"""From single runs to figures with intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.common import of_seeds
from benchmarks.sycophancy.entries import (
    KL_COEF,
    MENDINGS,
    PANELS,
    TRUTH,
    WEAK,
    Policy,
    Settings,
)

Runs = Mapping[tuple[str, int], dict[str, Any]]
SPLITS = ("train", "test")

# Figures that are no shares: differences, divergences, slopes, counts.
_NO_SHARES = {"answer_sycophancy", "kl", "kl_to_optimum", "share_of_gain", "drift", "rater_drift"}
_NO_SHARES |= {"votes"}


def summarise(settings: Settings, runs: Runs, before: dict[str, Any]) -> dict[str, Any]:
    """All figures of `results.json` but the head.

    Args:
        settings: Which seeds, biases, pressures and mendings to expect.
        runs: Records of `experiment.train_reward` and `experiment.train_policy`, by name and seed.
        before: Figures of the embedded model, by split.

    Returns:
        `before`; `reward_models` by panel; `policies` by name; and, made of these, `bias`,
        `pressure`, `slopes` and `mendings`.
    """
    seeds = range(settings.seeds)
    policies = {policy.key: policy for policy in settings.policies()}
    panels = dict.fromkeys(policy.panel for policy in policies.values())
    rewards = {
        panel: [runs[f"reward model of {panel}", seed] for seed in seeds] for panel in panels
    }
    trained = {key: [runs[key, seed] for seed in seeds] for key in policies}
    by_policy = {key: _over_seeds(records) for key, records in trained.items()}
    return {
        "before": before,
        "reward_models": {panel: _reward_model(panel, rewards[panel]) for panel in panels},
        "policies": {
            key: {**policies[key]._asdict(), **figures} for key, figures in by_policy.items()
        },
        "bias": [
            {"bias": bias, "policy": Policy(f"b={bias:g}", KL_COEF).key} for bias in settings.biases
        ],
        "pressure": [
            _pressure(bias, coefs, rewards[f"b={bias:g}"])
            for bias, coefs in settings.pressures.items()
        ],
        "slopes": [
            _slope(bias, rewards[f"b={bias:g}"], trained[Policy(f"b={bias:g}", WEAK).key], before)
            for bias, coefs in settings.pressures.items()
            if WEAK in coefs
        ],
        "mendings": [
            {
                "name": name,
                "label": MENDINGS[name].label,
                "needs": MENDINGS[name].needs,
                "policy": MENDINGS[name].policy.key,
                "votes": of_seeds(
                    [record["votes"] for record in rewards[MENDINGS[name].policy.panel]]
                ),
            }
            for name in settings.mendings
        ],
        "cpu_seconds": sum(run["cpu_seconds"] for run in runs.values()),
    }


def _over_seeds(records: Sequence[Any], *, is_share: bool = False) -> Any:
    """Records of equal structure as one, with an interval in place of each number."""
    if isinstance(records[0], dict):
        return {
            name: _over_seeds([record[name] for record in records], is_share=name not in _NO_SHARES)
            for name in records[0]
            if name not in ("closed_form_by_pressure", "cpu_seconds")
        }
    return of_seeds(records, is_share=is_share)


def _reward_model(panel: str, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Preferences with intervals and, for raters of one bias, what they should be."""
    row = {"label": PANELS[panel].label, **_over_seeds(records)}
    if len(PANELS[panel].biases) == 1:
        bias = PANELS[panel].biases[0]
        row["expected"] = {
            "sycophantic_over_truthful": _sigmoid(bias - TRUTH),
            "flip_over_keep": _sigmoid(bias - TRUTH),
            "matched_agreement": _sigmoid(bias),
            "matched_truth": _sigmoid(TRUTH),
        }
    return row


def _pressure(
    bias: float, coefs: Sequence[float], rewards: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The policies of one bias at all pressures, and the mean curves of the closed form."""
    row: dict[str, Any] = {
        "bias": bias,
        "policies": [Policy(f"b={bias:g}", coef).key for coef in coefs],
    }
    for split in SPLITS:
        curves = [record[split]["closed_form_by_pressure"] for record in rewards]
        row[split] = {name: np.mean([c[name] for c in curves], 0).tolist() for name in curves[0]}
    return row


def _slope(
    bias: float,
    rewards: Sequence[dict[str, Any]],
    policies: Sequence[dict[str, Any]],
    before: dict[str, Any],
) -> dict[str, Any]:
    """How fast false agreement grows with pressure at first: covariances, and what PPO did."""
    pressure = 1 / WEAK
    row: dict[str, Any] = {"bias": bias, "pressure": pressure}
    for split in SPLITS:
        start = before[split]["false_agreement"]
        measured = {
            name: [
                (record[split][name]["false_agreement"] - start) / pressure for record in policies
            ]
            for name in ("ppo", "closed_form")
        }
        covariance = [record[split]["drift"] for record in rewards]
        row[split] = {
            "covariance": of_seeds(covariance),
            "rater_covariance": rewards[0][split]["rater_drift"],
            **{name: of_seeds(values) for name, values in measured.items()},
            "ppo_minus_covariance": of_seeds(np.subtract(measured["ppo"], covariance).tolist()),
        }
    return row


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
