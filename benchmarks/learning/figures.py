"""From rewards by batch and seed to figures, a table and the curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import mean_with_interval, told
from benchmarks.learning.entries import TARGET
from llm_gym.statistics.resampling import bootstrap
from llm_gym.statistics.shares import FEWEST_SEEDS

WINDOW = 3  # batches whose mean reward counts as "the reward" at a point


def trailing_mean(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each batch and up to `WINDOW - 1` before it; shape `(batches,)` both ways."""
    sums = np.cumsum(np.concatenate([[0.0], rewards]))
    ends = np.arange(1, len(rewards) + 1)
    starts = np.maximum(ends - WINDOW, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def seconds_to(
    reward: float, rewards: NDArray[np.float64], seconds: NDArray[np.float64]
) -> float | None:
    """CPU seconds after which the trailing mean first is at least `reward`; None: never.

    Args:
        reward: What is to be reached.
        rewards: Mean reward of each batch, `(n,)`.
        seconds: CPU seconds that each batch took, `(n,)`.
    """
    reached = np.flatnonzero(trailing_mean(rewards)[WINDOW - 1 :] >= reward)
    return float(np.cumsum(seconds)[WINDOW - 1 + reached[0]]) if reached.size else None


def system_figures(runs: list[list[dict[str, Any]]], batches: int) -> dict[str, Any]:
    """Figures of one system.

    Args:
        runs: For each seed the measured batches.
        batches: Number of batches after which systems are compared.

    Returns:
        `final_reward` and `cpu_seconds` after `batches` (means with intervals over seeds),
        and the curves `rewards` and `batch_cpu_seconds` by seed.
    """
    rewards = [[batch["reward"] for batch in run] for run in runs]
    seconds = [[batch["cpu_seconds"] for batch in run] for run in runs]
    first = max(batches - WINDOW, 0)
    return {
        "status": "measured",
        "final_reward": mean_with_interval([np.mean(row[first:batches]) for row in rewards]),
        "cpu_seconds": mean_with_interval([np.sum(row[:batches]) for row in seconds]),
        "rewards": rewards,
        "batch_cpu_seconds": seconds,
    }


def add_comparison(systems: dict[str, dict[str, Any]], batches: int) -> None:
    """Adds to each system how it stands against the target system, if that was measured.

    `reward_minus_target` is the difference of the final rewards, with an interval.
    `seconds_to_target_reward` lists, by seed, the CPU seconds to the target's mean final reward
    (None: not reached), and `seconds_over_target` is their mean over the target's own seconds,
    None unless every seed got there.
    """
    target = systems.get(TARGET, {})
    if target.get("status") != "measured":
        return
    first = max(batches - WINDOW, 0)
    final = [np.mean(row[first:batches]) for row in target["rewards"]]
    for figures in systems.values():
        if figures["status"] != "measured":
            continue
        rewards = [np.mean(row[first:batches]) for row in figures["rewards"]]
        difference = float(np.mean(rewards) - np.mean(final))
        figures["reward_minus_target"] = {
            "mean": difference,
            "low": None,
            "high": None,
            "values": [],
        }
        if min(len(rewards), len(final)) >= FEWEST_SEEDS:
            low, high = bootstrap([rewards, final], lambda a, b: a.mean(1) - b.mean(1))
            figures["reward_minus_target"] = {"mean": difference, "low": low, "high": high}
        curves = zip(figures["rewards"], figures["batch_cpu_seconds"], strict=True)
        reached = [
            seconds_to(float(np.mean(final)), np.array(rewards), np.array(seconds))
            for rewards, seconds in curves
        ]
        figures["seconds_to_target_reward"] = reached
        figures["seconds_over_target"] = (
            None if None in reached else float(np.mean(reached) / target["cpu_seconds"]["mean"])
        )


def print_table(results: dict[str, Any]) -> None:
    """Final rewards and CPU seconds, the skipped systems included."""
    from rich.console import Console
    from rich.table import Table

    batches = results["settings"]["batches"]
    console = Console(width=max(Console().width, 118))
    table = Table(title=f"Learning variant: {batches} batches, mean and 95 % interval over seeds")
    table.add_column("system")
    for column in (
        f"reward, last {WINDOW} batches",
        "CPU seconds",
        "reward minus TRL PPO's",
        "CPU s to TRL PPO's final reward / TRL PPO's",
    ):
        table.add_column(column, justify="right")
    for figures in results["systems"].values():
        if figures["status"] == "skipped":
            table.add_row(figures["label"], f"skipped: {figures['reason']}", "-", "-", "-")
            continue
        over, difference = (
            figures.get(name) for name in ("seconds_over_target", "reward_minus_target")
        )
        table.add_row(
            figures["label"],
            told(figures["final_reward"], 3),
            told(figures["cpu_seconds"], 0),
            told(difference, 3) if difference else "-",
            "-" if over is None else f"{over:.2f}",
        )
    console.print(table)


def draw(results: dict[str, Any], path: Path) -> None:
    """Reward by batch and by CPU seconds: a thin line a seed, a thick one for their mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    measured = [f for f in results["systems"].values() if f["status"] == "measured"]
    for index, figures in enumerate(measured):
        rewards = np.array([trailing_mean(np.array(row)) for row in figures["rewards"]])
        seconds = np.cumsum(figures["batch_cpu_seconds"], axis=1)
        batches = np.arange(1, rewards.shape[1] + 1)
        style = {"color": f"C{index}"}
        for axis, by_seed in (
            (axes[0], np.broadcast_to(batches, rewards.shape)),
            (axes[1], seconds),
        ):
            for x, y in zip(by_seed, rewards, strict=True):
                axis.plot(x, y, alpha=0.25, linewidth=1, **style)
            label = figures["label"]
            axis.plot(by_seed.mean(0), rewards.mean(0), linewidth=2, label=label, **style)
    axes[0].set(xlabel="batch", ylabel=f"reward (mean of {WINDOW} batches)")
    axes[1].set(xlabel="CPU seconds")
    if measured:
        axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
