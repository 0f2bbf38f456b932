"""Curves, intervals and profiles as pictures."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.algorithms.intervals import DISTANCES

SHOWN = (
    "ppo",
    "a2c",
    "rloo",
    "grpo",
    "reinforce_plus_plus",
    "nlpo",
    "trpo",
    "raft",
    "dpo",
    "remax",
)
"""Algorithms in pictures of curves; more lines than these cannot be told apart, and Dr. GRPO's lies
on RLOO's."""


def draw(results: dict[str, Any], runs: list[dict[str, Any]], output: Path) -> list[Path]:
    """Writes all pictures and returns their paths; curves only of algorithms in `SHOWN`."""
    import matplotlib

    matplotlib.use("Agg")
    labels = {name: entry["label"] for name, entry in results["algorithms"].items()}
    pictures = [_intervals(results, labels, output / "j_over_jstar.png")]
    shown = [run for run in runs if run["algorithm"] in SHOWN]
    if not shown:
        return pictures
    return [
        _curves(shown, labels, "episodes", "sampled answers", output / "samples.png"),
        _curves(shown, labels, "cpu_seconds", "CPU seconds", output / "seconds.png"),
        *pictures,
        _profiles(results, labels, output / "profiles.png"),
    ]


def _curves(
    runs: list[dict[str, Any]], labels: dict[str, str], x: str, name: str, path: Path
) -> Path:
    """KL to the optimum, geometric mean over seeds, one panel a task."""
    import matplotlib.pyplot as plt

    curves: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        curves[run["task"]][run["algorithm"]].append(run["points"])
    figure, axes = plt.subplots(
        1, len(curves), figsize=(3.2 * len(curves), 3.6), sharey=True, squeeze=False
    )
    for axis, (task, by_algorithm) in zip(axes[0], sorted(curves.items()), strict=True):
        for index, algorithm in enumerate(name for name in SHOWN if name in labels):
            if algorithm not in by_algorithm:
                continue
            count = min(len(points) for points in by_algorithm[algorithm])
            table = np.array(
                [
                    [(p[x], p["kl_to_optimum"]) for p in points[: count - 1] + points[-1:]]
                    for points in by_algorithm[algorithm]
                ]
            )  # (seeds, points, 2)
            across = np.exp(np.log(np.maximum(table[..., 1], 1e-6)).mean(0))
            axis.plot(table[..., 0].mean(0), across, label=labels[algorithm], color=f"C{index}")
        axis.axhline(0.02, color="black", linewidth=0.7, linestyle=":")
        axis.set(title=task, xlabel=name, yscale="log")
        axis.locator_params(axis="x", nbins=4)
    axes[0, 0].set_ylabel("KL(policy || optimum), nats")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
    return path


def _intervals(results: dict[str, Any], labels: dict[str, str], path: Path) -> Path:
    import matplotlib.pyplot as plt

    means = results["interquartile_mean"]["j_over_jstar"]
    order = sorted(means, key=lambda name: means[name]["iqm"])
    figure, axis = plt.subplots(figsize=(6, 0.3 * len(order) + 1))
    for place, name in enumerate(order):
        mean = means[name]
        axis.plot([mean["low"], mean["high"]], [place, place], color="C0")
        axis.plot(mean["iqm"], place, "o", color="C0")
    axis.set_yticks(range(len(order)), [labels[name] for name in order])
    axis.axvline(0.99, color="black", linewidth=0.7, linestyle=":")
    axis.set(xlabel="J / J*, interquartile mean with 95 % interval")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _profiles(results: dict[str, Any], labels: dict[str, str], path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.5, 4))
    for index, name in enumerate(name for name in SHOWN if name in results["profiles"]):
        axis.plot(DISTANCES, results["profiles"][name], label=labels[name], color=f"C{index}")
    axis.set(
        xlabel="share of the way from the reference to the optimum that is left",
        ylabel="share of runs with less",
        xscale="log",
    )
    axis.invert_xaxis()
    figure.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
    return path
