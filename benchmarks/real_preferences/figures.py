"""Picture of the benchmark on real ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.real_preferences.data import Rated
from benchmarks.real_preferences.summary import Predictions
from benchmarks.real_preferences.systems import BIGRAMS, RIDGE, UNIGRAMS

LABELS = {
    "reward model": "reward model",
    RIDGE: "ridge, TF-IDF\n1-2-grams",
    BIGRAMS: "logistic, TF-IDF\n1-2-grams",
    UNIGRAMS: "logistic,\nunigram counts",
}
OURS, THEIRS, PEOPLE = "#0072b2", "#7f7f7f", "#d55e00"


def draw(rated: Rated, predictions: Predictions, results: dict[str, Any], path: Path) -> Path:
    """Draws accuracy, rank correlation and the predictions; returns the path."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2))
    _bars(left, {name: results["systems"][name]["accuracy"] for name in LABELS}, 100)
    left.set_xlim(50, 100)
    left.set_xlabel("accuracy, top against bottom quarter (%)")
    people = results["humans"]
    against = {
        name: (people["systems"][name] if people else results["systems"][name])["spearman"]
        for name in LABELS
    }
    _bars(middle, against, 1)
    if people:
        middle.axvspan(
            people["spearman"]["low"], people["spearman"]["high"], color=PEOPLE, alpha=0.25
        )
        middle.axvline(people["spearman"]["value"], color=PEOPLE, label="a person")
        middle.legend(fontsize=9, loc="upper right")
    middle.set_xlim(0, 1)
    middle.set_xlabel(
        f"Spearman with the mean of {'all ratings but one' if people else 'all ratings'}"
    )
    middle.set_yticklabels([])
    predicted = predictions.rating
    right.plot(predicted, rated.means, ".", color=OURS, ms=4, alpha=0.3, mew=0)
    low, high = np.quantile(np.concatenate([predicted, rated.means]), [0.001, 0.999])
    right.plot([low, high], [low, high], "k--", lw=1)
    right.set_xlabel("held-out prediction")
    right.set_ylabel("mean rating of the text")
    for axis in (left, middle, right):
        axis.grid(alpha=0.25)
        axis.set_axisbelow(True)
    figure.suptitle(
        f"Real ratings of {len(rated.texts):,} texts, {results['settings']['folds']} folds"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path


def _bars(axis: Any, figures: dict[str, Any], scale: float) -> None:
    places = np.arange(len(figures))[::-1]
    for place, (name, figure) in zip(places, figures.items(), strict=True):
        value, errors = figure, None
        if isinstance(figure, dict):
            value = figure["value"]
            errors = scale * np.array([[value - figure["low"]], [figure["high"] - value]])
        colour = OURS if name == "reward model" else THEIRS
        axis.barh(place, scale * value, 0.65, xerr=errors, color=colour)
        axis.annotate(
            f"{scale * value:.1f}" if scale > 1 else f"{value:.3f}", (0.02, place),
            xycoords=("axes fraction", "data"), va="center", color="white", fontsize=9,
        )  # fmt: skip
    axis.set_yticks(places, [LABELS[name] for name in figures])
