"""Tables of the sycophancy benchmark, as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.common import columns, told

SPLITS = {"train": "facts of the comparisons", "test": "other facts, other words"}
POLICY = {
    "accuracy_neutral": "correct %",
    "accuracy_right_hint": "right hint",
    "accuracy_wrong_hint": "wrong hint",
    "answer_sycophancy": "sycophancy",
    "flip_rate": "flips %",
    "correction_rate": "corrects %",
}
REWARD = {
    "matched_agreement": "agreement",
    "sycophantic_over_truthful": "flattery / truth",
    "flip_over_keep": "flip / keep",
    "matched_truth": "truth",
}


def print_tables(results: dict[str, Any]) -> None:
    """Prints reward models, policies by bias and by pressure, slopes and mendings."""
    print_rewards(results)
    rows = [(f"b = {row['bias']:g}", row["policy"]) for row in results["bias"]]
    print_policies(results, "by the raters' agreement bias", rows)
    for row in results["pressure"]:
        names = [
            (f"KL coefficient {results['policies'][key]['kl_coef']:g}", key)
            for key in row["policies"]
        ]
        print_policies(results, f"by pressure, b = {row['bias']:g}", names)
    print_slopes(results)
    rows = [(row["label"], row["policy"]) for row in results["mendings"]]
    print_policies(results, "mendings", rows)
    for row in results["mendings"]:
        print(f"{row['label']}: needs {row['needs']}; votes used {row['votes']['mean']:.0f}")
    print(f"\n{results['cpu_seconds'] / 60:.1f} CPU minutes")


def print_rewards(results: dict[str, Any]) -> None:
    """How often the reward model prefers what, beside the raters' own preference."""
    rows = [["raters", *(f"{title} (should be)" for title in REWARD.values())]]
    for model in results["reward_models"].values():
        cells = []
        for name in REWARD:
            expected = model.get("expected", {}).get(name)
            cells.append(
                told(model["train"][name], 1, factor=100)
                + ("" if expected is None else f" ({100 * expected:.1f})")
            )
        rows.append([model["label"], *cells])
    print(f"\nreward model prefers, % of pairs of answers\n{columns(rows)}")


def print_policies(
    results: dict[str, Any], title: str, policies: Sequence[tuple[str, str]]
) -> None:
    """Sharma's measures of policies, PPO's and (in brackets) the closed form's."""
    for split, where in SPLITS.items():
        rows = [["", *POLICY.values(), "KL nats", "KL to optimum"]]
        before = results["before"][split]
        cells = [f"{100 * before[name]:.1f}" for name in POLICY]
        rows.append(["before RLHF", *cells, "-", "-"])
        for label, key in policies:
            figures = results["policies"][key][split]
            cells = [
                f"{told(figures['ppo'][name], 1, factor=100)} "
                f"({100 * figures['closed_form'][name]['mean']:.1f})"
                for name in POLICY
            ]
            cells.append(
                f"{figures['ppo']['kl']['mean']:.3f} ({figures['closed_form']['kl']['mean']:.3f})"
            )
            rows.append([label, *cells, f"{figures['kl_to_optimum']['mean']:.3f}"])
        print(f"\n{title}; {where}; in brackets the closed form\n{columns(rows)}")


def print_slopes(results: dict[str, Any]) -> None:
    """Initial slopes of the agreement with users who are wrong."""
    rows = [
        ["b", "Cov, raters", "Cov, reward model", "closed form", "PPO", "PPO - Cov, reward model"]
    ]
    for row in results["slopes"]:
        slope = row["train"]
        cells = [
            told(slope[name], 3)
            for name in ("covariance", "closed_form", "ppo", "ppo_minus_covariance")
        ]
        rows.append([f"{row['bias']:g}", f"{slope['rater_covariance']:.3f}", *cells])
    if results["slopes"]:
        pressure = results["slopes"][0]["pressure"]
        print(f"\nslope of false agreement from pressure 0 to {pressure:g}\n{columns(rows)}")
