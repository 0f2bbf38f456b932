"""Figures from the predictions: accuracy, rank correlation, and how people do on the same."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_preferences.data import Rated, quarters
from benchmarks.real_preferences.systems import BASELINES, UNIGRAMS
from llm_gym.feedback.preferences import leave_one_out_correlation
from llm_gym.feedback.reward_model import spearman
from llm_gym.statistics.resampling import Bootstrap, bootstrap_interval
from llm_gym.statistics.shares import estimate_share

OURS = "reward model"
Done = dict[tuple[int, str], dict[str, Any]]


class Predictions(NamedTuple):
    """What all systems said of all N texts, each while its text was held out.

    Attributes:
        fold: In which each text was tested, int64 `(N,)`.
        rating: Mean of the ratings that the reward models predicted, float64 `(N,)`.
        models: Margins of each of the M reward models, float64 `(M, N)`.
        baselines: Margins of each baseline, float64 `(N,)`.
    """

    fold: NDArray[np.int64]
    rating: NDArray[np.float64]
    models: NDArray[np.float64]
    baselines: dict[str, NDArray[np.float64]]

    def systems(self) -> dict[str, NDArray[np.float64]]:
        """Margins of what is compared: the mean of the reward models, and the baselines."""
        return {OURS: self.models.mean(axis=0), **self.baselines}


def gather(fold: NDArray[np.int64], done: Done) -> Predictions:
    """Puts the folds' predictions together.

    Args:
        fold: In which each text was tested, int64 `(N,)`.
        done: What `systems.measure` returned, by fold and run.
    """
    margins: dict[str, NDArray[np.float64]] = {}
    ratings: dict[str, NDArray[np.float64]] = {}
    for (number, run), result in sorted(done.items()):
        inside = fold == number
        for name, values in result["margins"].items():
            margins.setdefault(name, np.empty(len(fold)))[inside] = values
        if "predicted" in result:
            ratings.setdefault(run, np.empty(len(fold)))[inside] = result["predicted"]
    return Predictions(
        fold,
        rating=np.mean(list(ratings.values()), axis=0),
        models=np.stack([margins[run] for run in ratings]),
        baselines={name: margins[name] for name in BASELINES},
    )


def summarise(rated: Rated, predictions: Predictions) -> dict[str, Any]:
    """Everything that is reported.

    Returns:
        JSON-able: `accuracy`, `bag_of_words` and `spearman`, which are numbers; `systems`, with
        intervals and by fold; `single_models`; `differences`; `humans`.
    """
    margins = predictions.systems()
    systems = {name: evaluate(rated, values, predictions.fold) for name, values in margins.items()}
    alone = [evaluate(rated, values, predictions.fold) for values in predictions.models]
    return {
        "accuracy": systems[OURS]["accuracy"]["value"],
        "bag_of_words": systems[UNIGRAMS]["accuracy"]["value"],
        "spearman": systems[OURS]["spearman"]["value"],
        "systems": systems,
        "single_models": [
            {name: figures[name]["value"] for name in ("accuracy", "spearman", "spearman_score")}
            for figures in alone
        ],
        "differences": {
            name: difference(rated, margins[OURS], margins[name]) for name in BASELINES
        },
        "humans": humans(rated, margins),
    }


def evaluate(rated: Rated, margins: NDArray[np.float64], fold: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy between the outer quarters and rank correlation with all ratings.

    Args:
        rated: The texts with their ratings, N.
        margins: float `(N,)`, positive for the upper quarter.
        fold: Fold of each text; `by_fold` has None where a fold has no text of the outer quarters.

    Returns:
        `accuracy`, `spearman` (with the mean rating), `spearman_score` (with the file's score),
        each with `value`, `low` and `high`, and `by_fold`.
    """
    classes = quarters(rated.scores)
    outer = classes != 0
    right = is_right(margins, classes)
    accuracy = estimate_share(right[outer])
    return {
        "accuracy": {"value": accuracy.value, "low": accuracy.low, "high": accuracy.high},
        "spearman": _rank(margins, rated.means),
        "spearman_score": _rank(margins, rated.scores),
        "by_fold": [
            float(right[outer & (fold == number)].mean())
            if (outer & (fold == number)).any()
            else None
            for number in range(int(fold.max()) + 1)
        ],
    }


def is_right(margins: NDArray[np.float64], classes: NDArray[np.int8]) -> NDArray[np.float64]:
    """1 where the margin has the sign of the class, one half where it is 0; float64 `(N,)`."""
    return (1 + np.sign(margins) * classes) / 2


def difference(
    rated: Rated, ours: NDArray[np.float64], theirs: NDArray[np.float64]
) -> dict[str, float]:
    """By how much our accuracy is higher on the same texts, with its paired interval."""
    classes = quarters(rated.scores)
    outer = classes != 0
    gain = (is_right(ours, classes) - is_right(theirs, classes))[outer]
    low, high = bootstrap_interval(gain)
    return {"value": float(gain.mean()), "low": low, "high": high}


def humans(rated: Rated, margins: dict[str, NDArray[np.float64]]) -> dict[str, Any] | None:
    """People and systems held against the same: the mean of all ratings of a text but one.

    One after the other each rating is left out. The quarters are made from the mean of the rest,
    and the rating that was left out tells them apart by the median of all ratings (one half where
    it is the median); systems tell them apart by their margins, which saw no rating of the text.

    Args:
        rated: The texts with their ratings, N.
        margins: float `(N,)` of each system.

    Returns:
        `accuracy` and `spearman` (with its interval) of the ratings left out, and the same of each
        system, under `systems`; None if texts have one rating each, or the ratings do not vary.
    """
    if rated.ratings.shape[1] < 2:
        return None
    agreement = leave_one_out_correlation(rated.ratings).mean
    if np.isnan(agreement.value):
        return None
    middle = np.nanmedian(rated.ratings)
    accuracies: dict[str, list[float]] = {name: [] for name in ("", *margins)}
    correlations: dict[str, list[float]] = {name: [] for name in margins}
    for column in range(rated.ratings.shape[1]):
        left_out, remaining = rated.ratings[:, column], np.delete(rated.ratings, column, axis=1)
        both = ~np.isnan(left_out) & ~np.isnan(remaining).all(axis=1)
        rest: NDArray[np.float64] = np.nanmean(remaining[both], axis=1)
        rest = np.round(rest, 9)  # equal means are equal whatever the order of summation
        try:
            classes = quarters(rest)
        except ValueError:
            return None
        said = {"": left_out[both] - middle} | {
            name: values[both] for name, values in margins.items()
        }
        for name, values in said.items():
            accuracies[name].append(float(is_right(values, classes)[classes != 0].mean()))
            if name:
                correlations[name].append(_rank(values, rest, resamples=0)["value"])
    return {
        "accuracy": float(np.mean(accuracies[""])),
        "spearman": {
            "value": agreement.value,
            "low": agreement.low,
            "high": agreement.high,
        },
        "systems": {
            name: {
                "accuracy": float(np.mean(accuracies[name])),
                "spearman": float(np.mean(correlations[name])),
            }
            for name in margins
        },
    }


def _rank(
    first: NDArray[np.float64], second: NDArray[np.float64], resamples: int = 1000
) -> dict[str, float]:
    correlation = spearman(first, second, bootstrap=Bootstrap(resamples=resamples))
    return {
        name: 0.0 if np.isnan(value) else value
        for name, value in (
            ("value", correlation.value),
            ("low", correlation.low),
            ("high", correlation.high),
        )
    }


def cpu_seconds(done: Done) -> dict[str, float]:
    """Seconds of CPU that training and predicting took, over all folds, of each system."""
    seconds = dict.fromkeys((OURS, *BASELINES), 0.0)
    for result in done.values():
        for name, value in result["cpu_seconds"].items():
            seconds[name if name in BASELINES else OURS] += value
    return seconds
