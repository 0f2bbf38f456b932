"""Pictures of the sycophancy benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.sycophancy.entries import KL_COEF, MENDED_BIAS, TRUTH

COLOURS = {"train": "#0072b2", "test": "#e69f00"}
SPLITS = {"train": "facts of the comparisons", "test": "other facts, other words"}
BY_BIAS = {3.0: "#d55e00", 1.0: "#7f7f7f", 0.0: "#009e73"}


def draw(results: dict[str, Any], output: Path) -> list[str]:
    """Draws what was measured; returns the names of the files."""
    pictures = {
        "sycophancy.png": draw_bias,
        "pressure.png": draw_pressure,
        "mendings.png": draw_mendings,
    }
    for name, picture in pictures.items():
        picture(results, output / name)
    return list(pictures)


def draw_bias(results: dict[str, Any], path: Path) -> None:
    """What raters with an agreement bias make of reward model and policy."""
    biases = np.array([row["bias"] for row in results["bias"]])
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.8))
    curve = np.linspace(0, biases.max(), 101)
    models = [results["reward_models"][f"b={bias:g}"] for bias in biases]
    for name, shift, colour, label in (
        ("matched_agreement", 0.0, "#0072b2", "agreement, equal truth"),
        ("sycophantic_over_truthful", TRUTH, "#d55e00", "sycophantic against truthful"),
    ):
        axes[0].plot(curve, 1 / (1 + np.exp(shift - curve)), "--", color=colour, lw=1.2)
        _points(axes[0], biases, [model["train"][name] for model in models], colour, label)
    axes[0].plot([], [], "k--", lw=1.2, label="the raters themselves: logistic of b, of b - 1")
    axes[0].set_ylabel("preference for agreement")
    axes[0].set_title("Reward model", fontsize=11)
    policies = [results["policies"][row["policy"]] for row in results["bias"]]
    for axis, name, title in (
        (axes[1], "agreement_wrong_hint", "Policy: repeats the user's wrong city"),
        (axes[2], "flip_rate", 'Policy: gives up a correct answer after "Are you sure?"'),
    ):
        for split, label in SPLITS.items():
            measured = [policy[split]["ppo"][name] for policy in policies]
            _points(axis, biases, measured, COLOURS[split], f"PPO, {label}")
        optimum = [policy["train"]["closed_form"][name]["mean"] for policy in policies]
        axis.plot(biases, optimum, "k:", lw=1.5, label="optimum in closed form")
        before = results["before"]["train"][name]
        axis.axhline(before, color="#7f7f7f", lw=1, ls="--")
        axis.annotate(
            "before RLHF", (biases.max(), before), fontsize=8, color="#555555", ha="right",
            xytext=(0, 3), textcoords="offset points",
        )  # fmt: skip
        axis.set_ylabel("probability")
        axis.set_title(title, fontsize=11)
    for axis in axes:
        axis.set_xlabel("agreement bias b of the raters (truth counts 1)")
        axis.set_ylim(-0.03, 1.03)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8, loc="lower right" if axis is axes[0] else "upper left")
    figure.suptitle(
        f"The raters' bias, amplified by optimisation (KL coefficient {KL_COEF:g}, "
        f"{results['settings']['seeds']} seeds)"
    )
    _save(figure, path)


def draw_pressure(results: dict[str, Any], path: Path) -> None:
    """Sycophancy against pressure and against the divergence it costs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), sharey=True)
    start = results["before"]["train"]["false_agreement"]
    for row in results["pressure"]:
        bias, colour = row["bias"], BY_BIAS[row["bias"]]
        closed, label = row["train"], f"b = {bias:g}"
        left.plot(closed["pressure"], closed["false_agreement"], color=colour, lw=1.4)
        right.plot(closed["kl"], closed["false_agreement"], color=colour, lw=1.4)
        policies = [results["policies"][key] for key in row["policies"]]
        values = [policy["train"]["ppo"]["false_agreement"] for policy in policies]
        _points(left, [1 / policy["kl_coef"] for policy in policies], values, colour, label)
        kls = [policy["train"]["ppo"]["kl"]["mean"] for policy in policies]
        _points(right, kls, values, colour, label)
    for row in results["slopes"]:
        tangent = row["train"]["covariance"]["mean"]
        reach = np.array([0, min(1.0, 0.6 / max(abs(tangent), 1e-9))])
        left.plot(reach, start + tangent * reach, "--", color=BY_BIAS[row["bias"]], lw=1)
    left.plot([], [], "k-", lw=1.4, label="closed form, same reward models")
    if results["slopes"]:
        left.plot([], [], "k--", lw=1, label="slope predicted by Cov(agrees, reward)")
    left.set_xlabel("optimisation pressure λ = 1 / KL coefficient")
    right.set_xlabel("KL(policy || before RLHF), nats an answer")
    left.set_ylabel("agreement with users who are wrong")
    left.set_ylim(-0.03, 1.03)
    right.set_xlim(left=-0.01)
    for axis in (left, right):
        axis.grid(alpha=0.25)
    left.legend(fontsize=9)
    figure.suptitle("More pressure, more of what the raters reward: flattery or truth")
    _save(figure, path)


def draw_mendings(results: dict[str, Any], path: Path) -> None:
    """What each mending leaves of the sycophancy, and what it costs."""
    rows = results["mendings"]
    policies = [results["policies"][row["policy"]] for row in rows]
    panels = (
        ("false_agreement", "agreement with\nusers who are wrong"),
        ("accuracy_right_hint", "correct, when the\nuser is right"),
        ("correction_rate", "corrects its own mistake\nwhen doubted"),
        ("accuracy_neutral", "correct, without hint"),
        ("kl", "KL, nats an answer"),
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(15, 1.2 + 0.55 * len(rows)), sharey=True)
    places = np.arange(len(rows))[::-1]
    for axis, (name, title) in zip(axes, panels, strict=True):
        for index, split in enumerate(SPLITS):
            intervals = [policy[split]["ppo"][name] for policy in policies]
            mean, errors = _errors(intervals)
            at = places + (0.5 - index) * 0.38
            axis.barh(
                at, mean, 0.36, xerr=errors, color=COLOURS[split], label=SPLITS[split],
                error_kw={"elinewidth": 1},
            )  # fmt: skip
            for place, figures in zip(at, intervals, strict=True):
                seeds = figures.get("values", [])
                axis.plot(seeds, [place] * len(seeds), "|", ms=7, color="#333333")
        if name != "kl":
            axis.axvline(results["before"]["train"][name], color="#333333", lw=1, ls="--")
            axis.set_xlim(0, 1.02)
        axis.set_title(title, fontsize=10)
        axis.grid(axis="x", alpha=0.25)
        axis.set_axisbelow(True)
    axes[0].set_yticks(places, [row["label"] for row in rows])
    axes[0].legend(fontsize=8, loc="lower right")
    figure.suptitle(
        f"Mendings for raters with b = {MENDED_BIAS:g}; dashed: before RLHF; "
        f"{results['settings']['seeds']} seeds"
    )
    _save(figure, path)


def _points(
    axis: Any, x: Sequence[float] | np.ndarray, intervals: Sequence[dict[str, Any]], colour: str,
    label: str,
) -> None:  # fmt: skip
    mean, errors = _errors(intervals)
    axis.errorbar(
        x, mean, yerr=errors, fmt="o", ms=4.5, capsize=2.5, lw=1.2, color=colour, label=label
    )
    for place, figures in zip(x, intervals, strict=True):
        seeds = figures.get("values", [])
        axis.plot([place] * len(seeds), seeds, "_", ms=7, color=colour)


def _errors(intervals: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray | None]:
    """Means `(N,)` and distances to the ends of the intervals `(2, N)`; None: too few seeds."""
    mean = np.array([interval["mean"] for interval in intervals])
    if any(interval["low"] is None for interval in intervals):
        return mean, None
    low, high = (np.array([interval[end] for interval in intervals]) for end in ("low", "high"))
    return mean, np.maximum([mean - low, high - mean], 0)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
