"""The table and the picture of the comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning.figures import WINDOW, trailing_mean
from benchmarks.side_by_side.settings import SYSTEMS, TASKS

# What is drawn: a colour for each algorithm, solid lines for ours.
_DRAWN = {
    "ours_rloo": ("C0", "-"),
    "trl_rloo": ("C0", "--"),
    "trl_rloo_positions": ("C0", ":"),
    "ours_rloo_fast": ("C3", "-"),
    "trl_rloo_fast_bf16": ("C3", "--"),
    "ours_grpo": ("C1", "-"),
    "trl_grpo": ("C1", "--"),
    "ours_ppo_as_trl": ("C2", "-"),
    "trl_ppo": ("C2", "--"),
}


def markdown(results: dict[str, Any]) -> str:
    """A table of the comparisons; intervals are 90 %."""
    lines = [
        "| task | ours | TRL's | seeds | reward, all batches: ours minus TRL's | last "
        f"{WINDOW} batches | within {results['margin']} | CPU s a batch, ours / TRL's "
        "| CPU s to the same reward, ours / TRL's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results["comparisons"]:
        head = [row["task"], SYSTEMS[row["ours"]].label, SYSTEMS[row["theirs"]].label]
        if row["status"] != "measured":
            lines.append("| " + " | ".join([*head, row["status"], *["-"] * 5]) + " |")
            continue
        area, final = row["area"], row["final"]
        cells = [
            *head,
            str(row["seeds"]),
            _interval(area, 3, signed=True),
            _interval(final, 3, signed=True),
            f"{area['verdict']}, {final['verdict']}",
            _interval(row["batch_seconds_ratio"], 2),
            f"{_interval(row['seconds_ratio'], 2)} to {row['common_reward']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _interval(figures: dict[str, float], digits: int, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    mean, low, high = (f"{figures[name]:{sign}.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def draw(results: dict[str, Any], path: Path) -> None:
    """Reward by batch above, by CPU seconds below; bands are the seeds' smallest and largest."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = results["curves"]
    if not curves:
        return
    figure, axes = plt.subplots(
        2, len(curves), figsize=(4 * len(curves), 5.6), sharey=True, squeeze=False
    )
    for column, (task, systems) in enumerate(curves.items()):
        for key, (color, line) in _DRAWN.items():
            if key not in systems:
                continue
            rewards = np.array([trailing_mean(np.array(r)) for r in systems[key]["rewards"]])
            batches = np.arange(1, rewards.shape[1] + 1)
            taken = np.cumsum(systems[key]["seconds"], axis=1).mean(0)
            for axis, x in zip(axes[:, column], (batches, taken), strict=True):
                label = SYSTEMS[key].label
                axis.plot(x, rewards.mean(0), color=color, linestyle=line, label=label)
                axis.fill_between(
                    x, rewards.min(0), rewards.max(0), color=color, alpha=0.12, linewidth=0
                )
        axes[0, column].set(title=TASKS[task].label, xlabel="batch")
        axes[1, column].set(xlabel="CPU seconds")
        axes[0, column].legend(fontsize=6)
    for row in axes:
        row[0].set(ylabel=f"reward (mean of {WINDOW} batches)")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
