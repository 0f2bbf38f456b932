"""How they learnt to fly, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def draw_flights(results: dict[str, Any], runs: list[dict[str, Any]], path: Path) -> Path:
    """Held-out return against steps and CPU seconds: means over seeds, and all seeds as a band."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    flights = results["flights"]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True)
    for index, name in enumerate(flights["learnt"]):
        curves = [run["points"] for run in runs if run["algorithm"] == name]
        for axis, x in zip(axes, ("steps", "cpu_seconds"), strict=True):
            table = np.array([[(p[x], p["return"]) for p in points] for points in curves])
            across, returns = table[..., 0].mean(0), table[..., 1]  # (points,), (seeds, points)
            label = f"{flights['algorithms'][name]['label']}, {len(curves)} seeds"
            axis.plot(across, returns.mean(0), marker=".", color=f"C{index}", label=label)
            axis.fill_between(
                across, returns.min(0), returns.max(0), color=f"C{index}", alpha=0.15, lw=0
            )
    for style, pilot in zip(("--", ":"), flights["pilots"].values(), strict=False):
        for axis in axes:
            axis.axhline(
                pilot["return"], color="black", lw=0.8, linestyle=style, label=pilot["label"]
            )
    axes[0].set(xlabel="steps of 0.2 s, all aeroplanes together")
    axes[0].set_ylabel("held-out return of 300, mean over levels")
    longest = max(run["end"]["cpu_seconds"] for run in runs)
    axes[1].set_xscale("symlog", linthresh=1.0)
    ticks = [tick for tick in (0, 1, 3, 10, 30, 100, 300, 1000) if tick <= longest]
    axes[1].set_xticks(ticks, [str(tick) for tick in ticks])
    axes[1].set(xlabel="CPU seconds of learning", xlim=(0, 1.1 * longest))
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
    return path
