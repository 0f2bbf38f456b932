"""Charts of a reward model's evaluation, as inline SVG, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llm_gym.files import Figure, Series, line_chart, scatter_chart

_CHANCE = ("chance", 0.5)


def calibration_chart(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draws how often the model is right against how often it expects to be.

    Args:
        bins: `calibration` of `evaluate_differences`.
    """
    expected = [row["expected"] for row in bins]
    return scatter_chart(
        [Series("reward model", expected, [row["accuracy"] for row in bins])],
        title="Calibration: is it right as often as it expects to be?",
        x_label="probability it gives the answer it prefers",
        y_label="share of votes that agree",
        diagonal=True,
    )


def margin_chart(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draws how often the model is right where people found it hard and easy.

    Args:
        bins: `accuracy_by_margin` of `evaluate_differences`, each drawn in its middle.
    """
    middles = [(row["low"] + row["high"]) / 2 for row in bins]
    return line_chart(
        [Series("reward model", middles, [row["accuracy"] for row in bins])],
        title="Is it right where the comparison was clear?",
        x_label="margin of the comparison",
        y_label="share right",
        reference=_CHANCE,
    )


def learning_curve_chart(points: Sequence[Mapping[str, Any]]) -> str:
    """Draws accuracy against the number of comparisons: the mean over seeds, and each seed.

    Args:
        points: From `learning_curve`.
    """
    by_seed: dict[int, dict[int, float]] = {}
    for point in points:
        curve = by_seed.setdefault(point["seed"], {})
        curve[point["comparisons"]] = point["accuracy"]["value"]
    sizes = sorted({size for curve in by_seed.values() for size in curve})
    means = [np.mean([curve[s] for curve in by_seed.values() if s in curve]) for s in sizes]
    series = [Series("mean over seeds", sizes, [float(mean) for mean in means])]
    if len(by_seed) > 1:
        series += [
            Series(f"seed {seed}", sorted(curve), [curve[size] for size in sorted(curve)])
            for seed, curve in sorted(by_seed.items())
        ]
    return line_chart(
        series,
        title="What more comparisons are worth",
        x_label="comparisons trained on",
        y_label="held-out accuracy",
        reference=_CHANCE,
    )


def layers_chart(head: Mapping[str, Any]) -> str:
    """Draws how much each layer of a frozen model explains by itself, on left-out folds.

    Args:
        head: Of a metric's `head`, with hidden states.
    """
    explained = head["states"]["explained_by_layer"]
    return line_chart(
        [
            Series(name, [row[0] for row in rows], [row[1] for row in rows])
            for name, rows in explained.items()
        ],
        title="What each layer knows by itself",
        x_label="layer (0: the embeddings)",
        y_label="share explained on left-out folds",
    )


def has_layers(head: Mapping[str, Any] | None) -> bool:
    """Whether there is something for `layers_chart` to draw."""
    states = None if head is None else head["states"]
    return states is not None and any(states["explained_by_layer"].values())


def evaluation_parts(
    evaluation: Mapping[str, Any], points: Sequence[Mapping[str, Any]] = ()
) -> tuple[list[Figure], list[str]]:
    """What a page shows of an evaluation: its figures and its charts.

    Args:
        evaluation: From `evaluate_differences`.
        points: From `learning_curve`, if one was measured.
    """
    charts = [calibration_chart(evaluation["calibration"])]
    if evaluation["accuracy_by_margin"]:
        charts.append(margin_chart(evaluation["accuracy_by_margin"]))
    if points:
        charts.append(learning_curve_chart(points))
    accuracy = evaluation["accuracy"]
    figures = [
        Figure(
            "accuracy",
            f"{100 * accuracy['value']:.1f} %",
            f"95 %: {100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f} %, "
            f"{evaluation['comparisons']:,} held-out comparisons",
        ),
        Figure("calibration error", f"{evaluation['calibration_error']:.3f}"),
    ]
    return figures, charts
