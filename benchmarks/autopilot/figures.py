"""Pictures of the autopilot benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.autopilot import flight
from benchmarks.autopilot.entries import LEVELS, SIZES

COLOURS = {
    "ppo": "#0072b2", "ppo_discrete": "#56b4e9", "sac": "#009e73", "dqn": "#e69f00",
    "pid": "#d55e00", "lqr": "#cc79a7", "tuned-rule": "#7f7f7f", "rule": "#4d4d4d",
    "trim": "#bdbdbd",
}  # fmt: skip


def draw_learning(results: dict[str, Any], path: Path) -> None:
    """Held-out return against steps and against CPU seconds; lines for PID, LQR and the rules."""
    pilots, curves = results["pilots"], results["curves"]
    figure, grid = plt.subplots(2, 2, figsize=(12, 8), sharey="row")
    for row, level in zip(grid, ("none", "moderate"), strict=True):
        for axis, name in zip(row, ("steps", "cpu_seconds"), strict=True):
            for key, runs in curves.items():
                for index, run in enumerate(runs):
                    label = pilots[key]["label"] if index == 0 else None
                    axis.plot(
                        run[name], run[level], color=COLOURS[key], label=label, lw=1.6, alpha=0.8
                    )
            _reference_lines(axis, pilots, level)
            axis.set_xscale("symlog", linthresh=10_000 if name == "steps" else 2)
            axis.set_xlim(left=0)
            axis.set_ylim(100, 285)
            axis.grid(alpha=0.25)
        title = "clear air" if level == "none" else f"{level} turbulence"
        row[0].set_ylabel(f"return in {title} (of 300)")
    grid[1, 0].set_xlabel("steps of 0.2 s")
    grid[1, 1].set_xlabel("CPU seconds of learning, one thread")
    grid[0, 0].legend(fontsize=9, loc="lower right")
    figure.suptitle("Learning to hold altitude and speed: one line a seed, held-out flights")
    _save(figure, path)


def _reference_lines(axis: Any, pilots: dict[str, Any], level: str) -> None:
    for key in ("pid", "tuned-rule", "rule"):
        value = pilots[key]["levels"][level]["return"]["mean"]
        axis.axhline(value, color=COLOURS[key], ls="--", lw=1)
        axis.annotate(
            pilots[key]["label"],
            (0.01, value),
            xycoords=("axes fraction", "data"),
            xytext=(2, 2),
            textcoords="offset points",
            fontsize=8,
            color=COLOURS[key],
        )


def draw_agents(results: dict[str, Any], path: Path) -> None:
    """Return, success and stick movement at every level, with 95 % intervals."""
    pilots = results["pilots"]
    panels = (
        ("return", "return (of 300)", 1.0),
        ("success", "successful flights, %", 100.0),
        ("elevator_deg_per_step", "elevator movement, degrees a step", 1.0),
    )
    figure, axes = plt.subplots(3, 1, figsize=(11, 11), sharex=True)
    width = 0.86 / len(pilots)
    for axis, (measure, label, factor) in zip(axes, panels, strict=True):
        for index, (key, figures) in enumerate(pilots.items()):
            rows = [figures["levels"][level][measure] for level in LEVELS]
            mean, low, high = (
                factor * np.array([np.nan if row[name] is None else row[name] for row in rows])
                for name in ("mean", "low", "high")
            )
            place = np.arange(len(LEVELS)) + (index - (len(pilots) - 1) / 2) * width
            errors = np.maximum([mean - low, high - mean], 0)
            axis.bar(
                place, mean, 0.92 * width, color=COLOURS[key], label=figures["label"],
                yerr=errors, error_kw={"elinewidth": 1, "ecolor": "#222222"},
            )  # fmt: skip
        axis.set_ylabel(label)
        axis.grid(axis="y", alpha=0.25)
        axis.set_axisbelow(True)
    axes[0].set_ylim(100, 290)
    axes[1].set_ylim(0, 104)
    names = ["clear air", "light", "moderate", "severe: never trained\nor tuned on"]
    axes[2].set_xticks(range(len(LEVELS)), names)
    axes[0].legend(ncols=5, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    _save(figure, path)


def draw_gap(results: dict[str, Any], path: Path) -> None:
    """Returns and success of each pilot in the toy and in JSBSim."""
    rows = results["rows"]
    levels = list(dict.fromkeys(row["turbulence"] for row in rows))
    pilots = dict.fromkeys((row["pilot"], row["label"]) for row in rows)
    shown = (("toy", "navion"), ("jsbsim", "navion"), ("jsbsim", "c172p"))
    labels = ("our Navion", "JSBSim's flight of the same Navion", "JSBSim's own Cessna 172P")
    colours = ("#0072b2", "#56b4e9", "#e69f00")
    figure, axes = plt.subplots(2, len(levels), figsize=(12, 7), sharey="row", squeeze=False)
    for column, level in enumerate(levels):
        for axis, (measure, factor) in zip(
            axes[:, column], (("return", 1.0), ("success", 100.0)), strict=True
        ):
            for index, (place, aircraft) in enumerate(shown):
                chosen = [
                    row[place][measure]
                    for row in rows
                    if row["turbulence"] == level and row["aircraft"] == aircraft
                ]
                mean, low, high = (
                    factor * np.array([interval[name] for interval in chosen])
                    for name in ("mean", "low", "high")
                )
                at = np.arange(len(pilots)) + (index - 1) * 0.27
                bars = axis.bar(
                    at, mean, 0.25, color=colours[index], label=labels[index],
                    yerr=[mean - low, high - mean], error_kw={"elinewidth": 1},
                )  # fmt: skip
                axis.bar_label(bars, fmt="%.0f", fontsize=7, padding=2)
            axis.grid(axis="y", alpha=0.25)
            axis.set_axisbelow(True)
            axis.set_xticks(range(len(pilots)), [label for _, label in pilots])
        axes[0, column].set_title("clear air" if level == "none" else f"{level} turbulence")
        axes[0, column].set_ylim(100, 300)
        axes[1, column].set_ylim(0, 112)
    axes[0, 0].set_ylabel("return (of 300)")
    axes[1, 0].set_ylabel("successful flights, %")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=3, loc="upper center")
    _save(figure, path, top=0.94)


def draw_speed(results: dict[str, Any], path: Path) -> None:
    """Steps per CPU second, and how often JSBSim's."""
    contenders = results["contenders"]
    groups = [("1", {"Autopilot, float64": "single", "CartPole": "cartpole", "JSBSim": "jsbsim"})]
    groups += [
        (
            f"{size:,}",
            {
                "Autopilot, float64": f"vector_{size}_f64",
                "Autopilot, float32": f"vector_{size}_f32",
                "CartPole": f"cartpole_{size}",
            },
        )
        for size in SIZES
    ]
    colours = {
        "Autopilot, float64": "#0072b2", "Autopilot, float32": "#56b4e9",
        "CartPole": "#7f7f7f", "JSBSim": "#e69f00",
    }  # fmt: skip
    figure, axis = plt.subplots(figsize=(10, 5))
    for number, (_, members) in enumerate(groups):
        for index, (name, key) in enumerate(members.items()):
            if key not in contenders:
                continue
            speed = contenders[key]["steps_per_second"]
            bar = axis.bar(
                number + (index - 1) * 0.28, speed["median"], 0.26, color=colours[name],
                label=name,
                yerr=[[speed["median"] - speed["low"]], [speed["high"] - speed["median"]]],
            )  # fmt: skip
            axis.bar_label(bar, labels=[_short(speed["median"])], fontsize=8, padding=2)
    axis.set_yscale("log")
    axis.set_ylim(1e3, 1e8)
    axis.set_xticks(range(len(groups)), [f"{name} side by side" if i else "one environment"
                                         for i, (name, _) in enumerate(groups)])  # fmt: skip
    axis.set_ylabel("agent steps per CPU second")
    unique = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    axis.legend(unique.values(), unique.keys(), loc="upper left")
    axis.grid(axis="y", alpha=0.25)
    axis.set_axisbelow(True)
    _save(figure, path)


def _short(value: float) -> str:
    return f"{value / 1e6:.2g} M" if value >= 1e6 else f"{value / 1e3:.3g} k"


def draw_flight(flights: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Altitude, airspeed and elevator of several pilots from one start."""
    figure, axes = plt.subplots(3, 1, figsize=(11, 9), sharex=True)
    panels = (
        ("altitude_m", "altitude, m", flight.START["target_altitude"]),
        ("airspeed_mps", "airspeed, m/s", flight.START["target_airspeed"]),
        ("elevator_deg", "elevator, degrees\n(trailing edge down positive)", None),
    )
    for axis, (name, label, target) in zip(axes, panels, strict=True):
        for key, flown in flights.items():
            text = f"{flight.PILOTS[key]} (return {flown['return'][0]:.0f})"
            axis.plot(flown["time_s"], flown[name], color=COLOURS[key], label=text, lw=1.5)
        if target is not None:
            axis.axhline(target, color="black", ls=":", lw=1.2, label="target")
        axis.set_ylabel(label)
        axis.grid(alpha=0.25)
    axes[0].legend(ncols=5, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes[2].set_xlabel("seconds")
    axes[2].set_xlim(0, max(flown["time_s"][-1] for flown in flights.values()))
    figure.suptitle(
        f"From {flight.START['altitude']:.0f} m and {flight.START['airspeed']:.0f} m/s to "
        f"{flight.START['target_altitude']:.0f} m and {flight.START['target_airspeed']:.0f} m/s, "
        f"{flight.START['turbulence']} turbulence"
    )
    _save(figure, path)


def _save(figure: Any, path: Path, top: float = 1.0) -> None:
    figure.tight_layout(rect=(0, 0, 1, top))
    figure.savefig(path, dpi=120)
    plt.close(figure)
