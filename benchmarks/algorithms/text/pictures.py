"""Runs on text as a picture: a row a task, of curves, ends with intervals, and their price."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FAMILIES = {
    "a critic": (
        "C0",
        (
            "ppo",
            "ppo_separate",
            "ppo_detached",
            "ppo_zero_start",
            "ppo_lambda_1",
            "ppo_lambda_05",
            "ppo_lambda_0",
            "a2c",
            "nlpo",
            "maskable_ppo",
            "trpo",
        ),
    ),
    "a baseline of the batch": ("C2", ("reinforce", "reinforce_baseline", "reinforce_plus_plus")),
    "a baseline of the prompt": (
        "C1",
        ("remax", "rloo", "rloo_4", "rloo_2", "grpo", "dr_grpo", "dapo"),
    ),
    "a choice among answers": ("C4", ("raft", "sft_on_best", "dpo", "dpo_online")),
}
"""What an answer is compared with: a colour, and algorithms."""

_CURVES = {
    "ppo": "-",
    "ppo_separate": "--",
    "a2c": ":",
    "reinforce_plus_plus": "-",
    "rloo_4": "-",
    "grpo": "--",
    "raft": "-",
    "dpo_online": "--",
}  # those whose way is shown, each with a style that is its own among its family


def family_of(name: str) -> tuple[str, str]:
    """Name and colour of an algorithm's family."""
    for family, (colour, members) in FAMILIES.items():
        if name in members:
            return family, colour
    return "others", "C7"


def draw_text(results: dict[str, Any], runs: list[dict[str, Any]], path: Path) -> Path:
    """Held-out scores: on the way, at the end with 95 % intervals, and against the divergence."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    held_out = results["held_out"]
    labels = {name: entry["label"] for name, entry in results["text"]["algorithms"].items()}
    most = max(map(len, held_out.values()))
    size = (15, len(held_out) * max(3.2, 0.24 * most + 1.2))
    figure, axes = plt.subplots(len(held_out), 3, figsize=size, squeeze=False)
    for row, (task, by_name) in zip(axes, held_out.items(), strict=True):
        _curves(row[0], [run for run in runs if run["task"] == task], by_name, labels)
        _ends(row[1], by_name, labels)
        _prices(row[2], by_name, labels)
        row[0].set_ylabel(f"{task}: held-out score")
    axes[-1, 0].set_xlabel("sampled tokens")
    axes[-1, 1].set_xlabel("held-out score at the end, 95 % interval over seeds")
    axes[-1, 2].set_xlabel("KL to the reference at the end, nats an answer")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "fontsize": "small", "ncol": 2}
    axes[-1, 0].legend(**below)
    axes[-1, 1].legend(**below, title="an answer is compared with")
    figure.tight_layout()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
    return path


def _curves(axis: Any, runs: list[dict[str, Any]], by_name: Any, labels: dict[str, str]) -> None:
    """Means over seeds."""
    for name, style in _CURVES.items():
        curves = [run["points"] for run in runs if run["algorithm"] == name]
        if name in by_name and curves:
            count = min(map(len, curves))
            table = np.array([[(p["tokens"], p["score"]) for p in c[:count]] for c in curves])
            colour = family_of(name)[1]
            axis.plot(*table.mean(0).T, style, marker=".", color=colour, label=labels[name])
    axis.locator_params(axis="x", nbins=4)
    axis.grid(alpha=0.3)


def _ends(axis: Any, by_name: dict[str, Any], labels: dict[str, str]) -> None:
    order = sorted(by_name, key=lambda name: by_name[name]["after"]["mean"])
    shown: set[str] = set()
    for place, name in enumerate(order):
        after, (family, colour) = by_name[name]["after"], family_of(name)
        label = None if family in shown else family
        shown.add(family)
        if after["low"] is None:
            axis.plot(after["values"], [place] * len(after["values"]), "|", color=colour)
        else:
            axis.plot([after["low"], after["high"]], [place, place], color=colour, linewidth=2)
        axis.plot(after["mean"], place, "o", color=colour, label=label)
    axis.set_yticks(range(len(order)), [labels[name] for name in order])
    axis.grid(axis="x", alpha=0.3)


def _prices(axis: Any, by_name: dict[str, Any], labels: dict[str, str]) -> None:
    """A point an algorithm; its name stands at the side, in the order of the scores."""
    ends = {name: (row["kl_to_reference"], row["after"]["mean"]) for name, row in by_name.items()}
    for place, name in enumerate(sorted(ends, key=lambda name: ends[name][1])):
        colour = family_of(name)[1]
        axis.plot(*ends[name], "o", color=colour)
        axis.annotate(
            labels[name],
            ends[name],
            xytext=(1.06, (place + 0.5) / len(ends)),
            textcoords="axes fraction",
            fontsize="x-small",
            va="center",
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.35, "lw": 0.6},
            annotation_clip=False,
        )
    axis.set_ylabel("held-out score at the end")
    axis.grid(alpha=0.3)
