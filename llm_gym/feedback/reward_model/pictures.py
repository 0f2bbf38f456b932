"""Pictures of a reward model's evaluation; matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_evaluation", "draw_learning_curve"]


def draw_evaluation(evaluation: Mapping[str, Any], path: str | Path) -> None:
    """Draws the calibration curve and, where there is one, the accuracy by margin.

    Args:
        evaluation: From `evaluate_differences`.
        path: Path of the picture; its ending says which kind.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    by_margin = evaluation["accuracy_by_margin"]
    figure = _figure(columns=2 if by_margin else 1)
    curve = evaluation["calibration"]
    axis = figure.axes[0]
    axis.plot([0.5, 1], [0.5, 1], "--", color="gray", label="calibrated")
    axis.scatter(
        [each["expected"] for each in curve],
        [each["accuracy"] for each in curve],
        s=[20 + 200 * each["n"] / evaluation["comparisons"] for each in curve],
        label="held-out comparisons",
    )
    axis.set(
        xlabel="probability of being right, by the model",
        ylabel="share right",
        title=f"calibration error {evaluation['calibration_error']:.3f}",
    )
    axis.legend()
    if by_margin:
        axis = figure.axes[1]
        names = [f"{each['low']:.2g} to {each['high']:.2g}" for each in by_margin]
        axis.bar(names, [each["accuracy"] for each in by_margin])
        axis.axhline(0.5, ls="--", color="gray")
        axis.set(xlabel="margin of the comparison", ylabel="share right", ylim=(0, 1))
    _save(figure, path)


def draw_learning_curve(points: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draws accuracy against the number of comparisons, with the mean over seeds.

    Args:
        points: From `learning_curve`.
        path: Path of the picture; its ending says which kind.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    figure = _figure(columns=1)
    axis = figure.axes[0]
    sizes = sorted({point["comparisons"] for point in points})
    values = [
        [each["accuracy"]["value"] for each in points if each["comparisons"] == size]
        for size in sizes
    ]
    axis.plot(sizes, [float(np.mean(each)) for each in values], "o-")
    for size, each in zip(sizes, values, strict=True):
        axis.scatter([size] * len(each), each, s=12, color="gray", zorder=3)
    axis.axhline(0.5, ls="--", color="gray")
    axis.set(xscale="log", xlabel="comparisons trained on", ylabel="held-out accuracy")
    _save(figure, path)


def _figure(columns: int) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib, which is not installed: pip install 'llm-gym[plots]'"
        ) from error
    figure = Figure(figsize=(5 * columns, 4), layout="constrained")
    figure.subplots(1, columns)
    return figure


def _save(figure: Figure, path: str | Path) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
