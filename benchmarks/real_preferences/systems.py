"""What predicts ratings: our reward model, and linear models of words on the same folds.

Each takes texts and ratings of the training folds and the texts of the test fold. Classifiers see
the outer quarters of the training folds only, as in the paper; models of ratings see all of them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_preferences.backbone import make_backbone
from benchmarks.real_preferences.data import Rated, quarters
from benchmarks.real_preferences.reader import Reader
from benchmarks.real_preferences.settings import Settings

UNIGRAMS = "unigram counts, logistic regression"
BIGRAMS = "TF-IDF of 1-2-grams, logistic regression"
RIDGE = "TF-IDF of 1-2-grams, ridge on all ratings"
BASELINES = (UNIGRAMS, BIGRAMS, RIDGE)
LINEAR = "linear models"  # the run that trains all of these


class Fold(NamedTuple):
    """One fold's split.

    Attributes:
        train: Places of the texts to train on, int64.
        test: Places of the texts to predict, int64.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def measure(
    rated: Rated, fold: Fold, settings: Settings, run: str, reader: Reader | None = None
) -> dict[str, Any]:
    """Trains what a run of `runs` names.

    Args:
        rated: The texts.
        fold: Which to train on and to predict.
        settings: Of the benchmark.
        run: One of `runs`.
        reader: Has read the texts, for a reward model on a frozen model; None trains another one.

    Returns:
        JSON-able: `margins` of the test texts by the system's name, positive for the upper quarter:
        predicted rating less the median of the training folds' mean ratings, or the classifier's
        own; `cpu_seconds` by the same name; for a reward model also its number of `parameters`, its
        predicted ratings as `predicted`, and what its `head` is made of, if it is a frozen one.
    """
    result: dict[str, Any] = {"margins": {}, "cpu_seconds": {}}
    for name in BASELINES if run == LINEAR else (run,):
        started = time.process_time()
        if run == LINEAR:
            margins = baseline(name)(rated, fold)
        else:
            seed = int(run.rpartition(" ")[2])
            if reader is None:
                predicted, result["parameters"] = reward_model(rated, fold, settings, seed)
            else:
                predicted, result["parameters"], result["head"] = frozen(rated, fold, reader)
            result["predicted"] = _rounded(predicted)
            margins = predicted - np.median(rated.means[fold.train])
        result["margins"][name] = _rounded(margins)
        result["cpu_seconds"][name] = time.process_time() - started
    return result


def runs(settings: Settings) -> list[str]:
    """What is trained on each fold: all linear models, then each of the reward models."""
    return [LINEAR, *(f"reward model {seed}" for seed in range(settings.models))]


def reward_model(
    rated: Rated, fold: Fold, settings: Settings, seed: int
) -> tuple[NDArray[np.float64], int]:
    """Predicted ratings of the test texts, float64 `(n,)`, and the number of parameters."""
    from llm_gym.feedback.reward_model import fit_rating_model

    train, test = ([rated.texts[place] for place in places] for places in (fold.train, fold.test))
    with tempfile.TemporaryDirectory() as directory:
        if not settings.checkpoint:
            make_backbone(train, settings.backbone, seed, directory)
        config = replace(settings.training, model=settings.checkpoint or directory, seed=seed)
        scorer, metrics = fit_rating_model(
            train,
            rated.ratings[fold.train],
            config,
            held_out=(test, rated.ratings[fold.test]),
            quiet=True,
        )
    predicted = scorer([""] * len(test), test)
    return np.asarray(predicted, dtype=np.float64) + metrics["offset"], metrics["parameters"]


def frozen(
    rated: Rated, fold: Fold, reader: Reader
) -> tuple[NDArray[np.float64], int, dict[str, Any]]:
    """The same of a frozen model, and what its head is made of."""
    from llm_gym.feedback.reward_model.parts import Task

    texts = _chosen(rated, fold.train)
    task = Task((texts,), rated.means[fold.train], np.ones(len(texts)), texts)
    scorer, head = reader.fit(task)
    predicted = reader.rewards(scorer, _chosen(rated, fold.test))
    return predicted, scorer.model.num_parameters(), head


def baseline(name: str) -> Callable[[Rated, Fold], NDArray[np.float64]]:
    """A linear model of words: takes the data and a fold, returns margins of the test texts."""
    require_sklearn()
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge

    def classify(vectorizer: Any, strength: float, rated: Rated, fold: Fold) -> NDArray[np.float64]:
        classes = quarters(rated.scores)
        outer = fold.train[classes[fold.train] != 0]
        model = LogisticRegression(C=strength, max_iter=2000)
        model.fit(vectorizer.fit_transform(_chosen(rated, outer)), classes[outer])
        return model.decision_function(vectorizer.transform(_chosen(rated, fold.test)))

    def rate(rated: Rated, fold: Fold) -> NDArray[np.float64]:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        model = Ridge(alpha=1.0, solver="sparse_cg")
        means = rated.means[fold.train]
        model.fit(vectorizer.fit_transform(_chosen(rated, fold.train)), means)
        predicted = model.predict(vectorizer.transform(_chosen(rated, fold.test)))
        return predicted - np.median(means)

    def unigrams(rated: Rated, fold: Fold) -> NDArray[np.float64]:
        return classify(CountVectorizer(), 1.0, rated, fold)

    def bigrams(rated: Rated, fold: Fold) -> NDArray[np.float64]:
        return classify(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), 5.0, rated, fold)

    return {UNIGRAMS: unigrams, BIGRAMS: bigrams, RIDGE: rate}[name]


def require_sklearn() -> None:
    """ImportError that says what to install, before anything is trained."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "the linear baselines need scikit-learn: pip install 'llm-gym[baselines]'"
        ) from error


def _chosen(rated: Rated, places: NDArray[np.int64]) -> list[str]:
    return [rated.texts[place] for place in places]


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 6) for value in values]
