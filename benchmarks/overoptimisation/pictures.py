"""Pictures of the runs: curves by size of the data, peaks, and the price of the proxy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.overoptimisation.claims import METHODS, SMOOTHED, Floats, Run, smoothed

TITLES = {"best_of_n": "best-of-n (exact)", "ppo": "PPO", "tilted": "tilted policy (exact)"}


def draw(runs: Sequence[Run], rows: Sequence[Run], directory: Path) -> list[Path]:
    """Draws `curves.png` and `peaks.png`.

    Args:
        runs: Finished runs, with their curves.
        rows: Their summaries, in the same order.
        directory: An existing folder.
    """
    import matplotlib

    matplotlib.use("Agg")
    paths = [directory / "curves.png", directory / "peaks.png"]
    _curves(runs, paths[0])
    _peaks(runs, rows, paths[1])
    return paths


def mean_curve(runs: Sequence[Run], method: str, points: int = 60) -> tuple[Floats, Floats, Floats]:
    """Distance, proxy and gold averaged over runs at equal distance, as far as all of them go."""
    window = SMOOTHED if method == "ppo" else 1
    curves = []
    for run in runs:
        kl, proxy, gold = smoothed(run[method], window)
        order = np.argsort(kl, kind="stable")  # sampled divergences go back and forth a little
        curves.append((np.sqrt(kl)[order], proxy[order], gold[order]))
    grid = np.linspace(0, min(distance[-1] for distance, _, _ in curves), points)
    proxies = np.mean([np.interp(grid, d, proxy) for d, proxy, _ in curves], axis=0)
    golds = np.mean([np.interp(grid, d, gold) for d, _, gold in curves], axis=0)
    return grid, proxies, golds


def _curves(runs: Sequence[Run], path: Path) -> None:
    """A column for each size of the data, a row for each method; one colour a proxy's width."""
    import matplotlib.pyplot as plt

    counts = sorted({run["comparisons"] for run in runs})
    widths = sorted({run["width"] for run in runs})
    figure, axes = plt.subplots(
        len(METHODS), len(counts), figsize=(4.2 * len(counts), 6.6), sharey=True, squeeze=False
    )
    colours = plt.get_cmap("viridis")(np.linspace(0.1, 0.8, len(widths)))
    for axis_row, method in zip(axes, METHODS, strict=True):
        for axis, count in zip(axis_row, counts, strict=True):
            for width, colour in zip(widths, colours, strict=True):
                chosen = [r for r in runs if (r["comparisons"], r["width"]) == (count, width)]
                for run in chosen:
                    kl, _, gold = smoothed(run[method], SMOOTHED if method == "ppo" else 1)
                    axis.plot(np.sqrt(kl), gold, color=colour, lw=0.5, alpha=0.45)
                d, proxy, gold = mean_curve(chosen, method)
                axis.plot(d, gold, color=colour, lw=2, label=f"gold, width {width}")
                axis.plot(d, proxy, color=colour, lw=1.2, ls="--")
            axis.axhline(0, color="0.8", lw=0.8, zorder=0)
            axis.set_title(f"{TITLES[method]}, {count:,} comparisons", fontsize=10)
            axis.set_xlabel("√KL, √nats")
    for axis_row in axes:
        axis_row[0].set_ylabel("gain, standard deviations")
    axes[0, 0].plot([], [], color="0.3", ls="--", lw=1.2, label="proxy")
    axes[0, 0].plot([], [], color="0.5", lw=0.5, label="gold, one seed")
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _peaks(runs: Sequence[Run], rows: Sequence[Run], path: Path) -> None:
    """Where gold peaks against the size of the data; and what the proxy costs in KL."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    counts = sorted({row["comparisons"] for row in rows})
    for method, colour in zip(METHODS, ("tab:blue", "tab:red"), strict=True):
        for axis, name in ((axes[0], "peak_kl"), (axes[1], "peak_gold")):
            values = [[r[method][name] for r in rows if r["comparisons"] == n] for n in counts]
            for n, column in zip(counts, values, strict=True):
                axis.plot([n] * len(column), column, ".", color=colour, alpha=0.35)
            means = [np.mean(column) for column in values]
            axis.plot(counts, means, "o-", color=colour, label=TITLES[method])
    for axis, label in ((axes[0], "KL at the peak of gold, nats"), (axes[1], "gold at its peak")):
        axis.set(xscale="log", xlabel="comparisons the proxy was trained on", ylabel=label)
        axis.set_xticks(counts, [f"{count:,}" for count in counts])
        axis.minorticks_off()
        axis.legend(frameon=False)
    largest = max(row["width"] for row in rows)
    chosen: list[dict[str, Any]] = [
        r for r in runs if (r["width"], r["comparisons"]) == (largest, counts[-1])
    ]
    for method, colour in (("tilted", "0.4"), ("best_of_n", "tab:blue"), ("ppo", "tab:red")):
        d, proxy, gold = mean_curve(chosen, method)
        axes[2].plot(d, proxy, "--", color=colour, lw=1.2)
        axes[2].plot(d, gold, color=colour, lw=2, label=TITLES[method])
    axes[2].set(
        xlabel="√KL, √nats",
        ylabel="gain, standard deviations",
        title="largest proxy: gold, and proxy dashed",
    )
    axes[2].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
