"""The table of the benchmark on real ratings, as plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import columns
from benchmarks.real_preferences.systems import BASELINES


def print_tables(results: dict[str, Any]) -> None:
    """Prints all systems on the paper's task, and beside people on what is the same for both."""
    settings = results["settings"]
    print(
        f"\n{results['data']['texts']:,} texts, {settings['folds']} folds, held-out predictions\n"
    )
    head = ["", "top / bottom quarter %", "Spearman, mean rating", "with score", "CPU s"]
    rows = [head, _row(ours_label(settings), results["systems"]["reward model"], results)]
    if settings["models"] > 1:
        rows.append(_single(results["single_models"]))
    rows += [_row(name, results["systems"][name], results) for name in BASELINES]
    print(columns(rows))
    print()
    for name, gain in results["differences"].items():
        print(f"reward model less {name}: {_percent(gain)} points (paired)")
    if results["humans"] is not None:
        _print_humans(results, settings)


def ours_label(settings: dict[str, Any]) -> str:
    """Name of our reward model in tables and pictures."""
    origin = settings["checkpoint"] or "from scratch"
    if settings["training"]["head"] != "finetune":
        origin = f"{Path(origin).name} as it is, --head {settings['training']['head']}"
    if settings["models"] == 1:
        return f"reward model, {origin}"
    return f"reward model, {origin}, mean of {settings['models']}"


def _print_humans(results: dict[str, Any], settings: dict[str, Any]) -> None:
    people = results["humans"]
    print("\nagainst the mean of all ratings of a text but one\n")
    spearman = people["spearman"]
    rows = [["", "top / bottom quarter %", "Spearman"]]
    rows.append(["the rating left out", f"{100 * people['accuracy']:.1f}", _interval(spearman)])
    for name, figures in people["systems"].items():
        label = ours_label(settings) if name == "reward model" else name
        rows.append([label, f"{100 * figures['accuracy']:.1f}", f"{figures['spearman']:.3f}"])
    print(columns(rows))


def _row(label: str, figures: dict[str, Any], results: dict[str, Any]) -> list[str]:
    name = "reward model" if label not in BASELINES else label
    return [
        label,
        _percent(figures["accuracy"]),
        _interval(figures["spearman"]),
        f"{figures['spearman_score']['value']:.3f}",
        f"{results['cpu_seconds'][name]:.0f}",
    ]


def _single(models: list[dict[str, float]]) -> list[str]:
    accuracy, spearman, score = (
        float(np.mean([figures[name] for figures in models]))
        for name in ("accuracy", "spearman", "spearman_score")
    )
    label = "  one of them (mean of each alone)"
    return [label, f"{100 * accuracy:.1f}", f"{spearman:.3f}", f"{score:.3f}", ""]


def _percent(interval: dict[str, float]) -> str:
    value, low, high = (100 * interval[name] for name in ("value", "low", "high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _interval(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"
