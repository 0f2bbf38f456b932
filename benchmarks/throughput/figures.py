"""From measured batches to figures: speeds, ratios with intervals, a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import median_with_interval
from benchmarks.throughput.entries import CURVES, RATIOS, Ratio
from llm_gym.statistics.resampling import bootstrap

Batches = list[dict[str, Any]]
MEASURES = ("rollout", "train")
NAMES = {"rollout": "rollout", "train": "loop"}  # of the measures, in tables and results


def speeds(batches: Batches, clock: str) -> NDArray[np.float64]:
    """Tokens per second of each batch; `clock` is "cpu" or "wall"."""
    return np.array([batch["tokens"] / batch[f"{clock}_seconds"] for batch in batches])


def system_figures(measured: dict[str, Batches]) -> dict[str, Any]:
    """Medians with intervals of one system's batches, its peak memory, and the batches."""
    figures: dict[str, Any] = {"status": "measured"}
    for measure in MEASURES:
        if measured.get(measure):
            figures[NAMES[measure]] = {
                f"tokens_per_{clock}_second": median_with_interval(speeds(measured[measure], clock))
                for clock in ("cpu", "wall")
            }
    everything = [batch for measure in MEASURES for batch in measured.get(measure, [])]
    figures["peak_mb"] = max(batch["peak_mb"] for batch in everything)
    figures["batches"] = measured
    return figures


def ratio_figures(systems: dict[str, dict[str, Any]], clock: str) -> dict[str, dict[str, Any]]:
    """Every ratio whose two systems were measured: value, interval and goal."""
    figures = {}
    for name, ratio in RATIOS.items():
        measured = _ratio(systems, ratio, clock)
        if measured is not None:
            figures[name] = {**measured, "goal": ratio.goal}
    return figures


def _ratio(systems: dict[str, dict[str, Any]], ratio: Ratio, clock: str) -> dict[str, float] | None:
    of, over = systems.get(ratio.of, {}), systems.get(ratio.over, {})
    if of.get("status") != "measured" or over.get("status") != "measured":
        return None
    if ratio.measure == "peak":
        value = of["peak_mb"] / over["peak_mb"]
        return {"value": value, "low": value, "high": value}
    above = speeds(of["batches"][ratio.measure], clock)
    below = speeds(over["batches"][ratio.measure], clock)
    low, high = bootstrap([above, below], lambda a, b: np.median(a, 1) / np.median(b, 1))
    return {"value": float(np.median(above) / np.median(below)), "low": low, "high": high}


def print_tables(results: dict[str, Any]) -> None:
    """Two tables: the systems, the skipped ones included, and the ratios."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(Console().width, 118))  # a log file has no width of its own
    table = Table(title="Tokens per second (median of the batches) and peak memory")
    table.add_column("system")
    for name in NAMES.values():
        for clock in ("cpu", "wall"):
            table.add_column(f"{name} / {clock} s", justify="right")
    table.add_column("peak MB", justify="right")
    for figures in results["systems"].values():
        if figures["status"] == "skipped":
            table.add_row(figures["label"], f"skipped: {figures['reason']}", *["-"] * 4)
            continue
        cells = []
        for name in NAMES.values():
            for clock in ("cpu", "wall"):
                speed = figures.get(name, {}).get(f"tokens_per_{clock}_second")
                cells.append("-" if speed is None else f"{speed['median']:.4g}")
        label = figures["label"] + (" *" if figures.get("note") else "")
        table.add_row(label, *cells, f"{figures['peak_mb']:.0f}")
    console.print(table)
    for figures in results["systems"].values():
        if figures.get("note"):
            console.print(f"* {figures['label']}: {figures['note']}")
    table = Table(title=f"Ratios (by {results['settings']['clock']} seconds)")
    for column in ("ratio", "value", "95 % interval", "goal"):
        table.add_column(column, justify="left" if column == "ratio" else "right")
    for name, figures in results["ratio_details"].items():
        interval = f"{figures['low']:.2f} to {figures['high']:.2f}"
        table.add_row(name, f"{figures['value']:.2f}", interval, figures["goal"])
    for name, value in results["ratios"].items():
        if value is None:
            table.add_row(name, "not measured", "-", RATIOS[name].goal)
    console.print(table)


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars of rollout speed, loop speed and peak memory."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    clock = results["settings"]["clock"]
    systems = {k: v for k, v in results["systems"].items() if v["status"] == "measured"}
    panels = [(f"{name}: tokens per {clock} second", name) for name in NAMES.values()]
    figure, axes = plt.subplots(1, 3, figsize=(15, 0.5 * len(systems) + 1.5))
    for axis, (title, name) in zip(axes, [*panels, ("peak memory, MB", "peak_mb")], strict=True):
        labels, values, errors = [], [], []
        for figures in reversed(systems.values()):
            if name not in figures:
                continue
            labels.append(figures["label"])
            if name == "peak_mb":
                values.append(figures[name])
                errors.append((0.0, 0.0))
                continue
            speed = figures[name][f"tokens_per_{clock}_second"]
            values.append(speed["median"])
            errors.append((speed["median"] - speed["low"], speed["high"] - speed["median"]))
        colours = ["#2a6f97" if label.startswith("llm_gym") else "#a9b4bd" for label in labels]
        axis.barh(labels, values, xerr=np.array(errors).T, color=colours)
        axis.set_title(title)
        axis.tick_params(axis="y", labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_curves(results: dict[str, Any], path: Path) -> None:
    """What a token costs by the length of answers, a line for each number of rows."""
    clock, systems = results["settings"]["clock"], results["systems"]
    cells = {
        cell: systems[key]
        for key, cell in CURVES.items()
        if systems.get(key, {}).get("status") == "measured"
    }
    if not cells:
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
    for axis, name in zip(axes, (*NAMES.values(), "peak_mb"), strict=True):
        for rows in sorted({rows for rows, _ in cells}):
            lengths = sorted(length for n, length in cells if n == rows)
            of_rows = [cells[rows, length] for length in lengths]
            values = [
                of[name] if name == "peak_mb"
                else 1e6 / of[name][f"tokens_per_{clock}_second"]["median"]
                for of in of_rows
            ]  # fmt: skip
            axis.plot(lengths, values, marker="o", label=f"{rows} rows")
        axis.set_title("peak memory, MB" if name == "peak_mb" else f"{name}: {clock} µs a token")
        axis.set_xlabel("new tokens")
        axis.set_ylim(bottom=0)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
