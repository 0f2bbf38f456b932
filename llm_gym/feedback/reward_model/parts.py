"""What a reward of frozen parts is made of: words, hidden states, and how much of each.

Each part is a convex fit whose penalty (and for hidden states whose layers and pooling) is chosen
by cross-validation; their weights in the sum are fitted to what each predicted of left-out folds
(stacking: Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1), and are never negative (Breiman 1996,
doi:10.1007/BF00117832). So a part that adds nothing to the other counts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from llm_gym.feedback.reward_model.layers import (
    Features,
    Reading,
    Target,
    choose_layers,
    standardised,
)
from llm_gym.feedback.reward_model.linear import logistic, ridge, stacked
from llm_gym.feedback.reward_model.words import Sparse, Terms, WordWeights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

FOLDS = 5
_WORD_PENALTIES = {"ratings": (4.0, 2.0, 1.0, 0.5), "comparisons": (10.0, 3.0, 1.0, 0.3)}
_STATE_PENALTIES = (3e4, 1e4, 3e3, 1e3, 300.0, 100.0, 30.0)  # of a logistic fit


@dataclass(frozen=True)
class Task:
    """N ratings or N comparisons to learn.

    Attributes:
        sides: The texts: one list of N that were rated, or the chosen and the rejected ones.
        values: float64 `(N,)`: ratings; of comparisons the margins, 0 for none.
        trust: float64 `(N,)`: how much each counts.
        groups: What must not be torn apart by folds: N texts or prompts.
    """

    sides: tuple[list[str], ...]
    values: Floats
    trust: Floats
    groups: list[str]

    @property
    def kind(self) -> str:
        """`ratings` or `comparisons`."""
        return "ratings" if len(self.sides) == 1 else "comparisons"

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[np.int64]) -> Task:
        """Some of its rows."""
        sides = tuple([side[row] for row in rows] for side in self.sides)
        groups = [self.groups[row] for row in rows]
        return Task(sides, self.values[rows], self.trust[rows], groups)

    def loss(self, predicted: Floats) -> float:
        """Mean squared error, or mean `-log sigma(predicted - margin)`, weighed."""
        if self.kind == "ratings":
            errors = (predicted - self.values) ** 2
        else:
            errors = np.logaddexp(0, self.values - predicted)
        return float(self.trust @ errors / self.trust.sum())


class Part(NamedTuple):
    """A part that was fitted.

    Attributes:
        predictions: float64 `(N,)`, of each row of the task while its fold was left out.
        report: JSON-able: its loss there, and what was chosen.
    """

    predictions: Floats
    report: dict[str, Any]


def deal(groups: Sequence[str], seed: int, number: int = FOLDS) -> NDArray[np.int64]:
    """Folds of rows, those of one group together; of a single group row by row.

    Args:
        groups: N names.
        seed: Seed of the deal.
        number: Folds, at most.

    Returns:
        int64 `(N,)`, from 0.
    """
    first: dict[str, int] = {}
    names: list[int] = [first.setdefault(name, len(first)) for name in groups]
    if len(first) < 2:
        names, first = list(range(len(groups))), dict.fromkeys(map(str, range(len(groups))), 0)
    order = np.random.default_rng(seed).permutation(len(first))
    fold = np.empty(len(first), dtype=np.int64)
    fold[order] = np.arange(len(first)) % min(number, len(first))
    return fold[names]


# ------------------------------------------------------------------ words


class Words:
    """The part of a task that its texts' words tell.

    Args:
        task: Its texts are read once.
        marks: Whether single letters and punctuation marks are words, too.
    """

    def __init__(self, task: Task, *, marks: bool) -> None:
        self.task = task
        self.terms = Terms([text for side in task.sides for text in side], marks=marks)

    def matrix(self, train: NDArray[np.int64]) -> tuple[Sparse, Floats]:
        """Vectors of all rows (of differences, for comparisons), and how rare each term is.

        Args:
            train: Rows whose texts say what is rare.
        """
        number = len(self.task)
        rarity = self.terms.rarity(
            np.concatenate([train + side * number for side in range(len(self.task.sides))])
        )
        vectors = self.terms.vectors(rarity)
        if self.task.kind == "ratings":
            return vectors, rarity
        sides = np.arange(number), np.arange(number) + number
        return vectors.take(sides[0]).less(vectors.take(sides[1])), rarity

    def fit(
        self, matrix: Sparse, rows: NDArray[np.int64], penalty: float, start: Floats | None = None
    ) -> tuple[Floats, float]:
        """Weights of the terms, and the intercept (0 for comparisons)."""
        task, part = self.task, matrix.take(rows)
        if task.kind == "ratings":
            return ridge(part, task.values[rows], penalty, task.trust[rows])
        trust = task.trust[rows]
        return logistic(part, penalty, trust, task.values[rows], start), 0.0


def words_part(task: Task, folds: NDArray[np.int64]) -> Part:
    """Chooses which words are read and how strongly to shrink, on left-out folds.

    Args:
        task: What to learn.
        folds: int64 `(N,)`.

    Returns:
        The part; `report` has `loss`, `marks` and `penalty`.
    """
    penalties = _WORD_PENALTIES[task.kind]
    found = []
    for marks in (True, False):
        words = Words(task, marks=marks)
        predictions = np.zeros((len(penalties), len(task)))
        for fold in range(int(folds.max()) + 1):
            train, tested = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            matrix, _ = words.matrix(train)
            weights = None
            for place, penalty in enumerate(penalties):
                weights, shift = words.fit(matrix, train, penalty, weights)
                predictions[place, tested] = matrix.take(tested).times(weights) + shift
        found += [
            Part(values, {"loss": task.loss(values), "marks": marks, "penalty": penalty})
            for values, penalty in zip(predictions, penalties, strict=True)
        ]
    return min(found, key=lambda part: part.report["loss"])


def fit_words(task: Task, marks: bool, penalty: float) -> tuple[WordWeights, float]:
    """Fits the words of a whole task.

    Returns:
        The function, and the intercept.
    """
    words, rows = Words(task, marks=marks), np.arange(len(task))
    matrix, rarity = words.matrix(rows)
    weights, shift = words.fit(matrix, rows, penalty)
    return WordWeights(list(words.terms.index), rarity, weights, marks), shift


# ------------------------------------------------------------------ hidden states


def states_part(
    features: Features, candidates: Sequence[Reading], task: Task, folds: NDArray[np.int64]
) -> Part:
    """Chooses layers and penalty on left-out folds.

    Args:
        features: Of the task's texts.
        candidates: Which layers may be read.
        task: What to learn.
        folds: int64 `(N,)`.

    Returns:
        The part; `report` has `loss`, `reading`, `penalty`, and what single layers do `alone`.
    """
    ratings = task.kind == "ratings"
    target = Target(task.values if ratings else np.ones(len(task)), task.trust, free=ratings)
    choice = choose_layers(features, candidates, target, folds)
    chosen = {"reading": choice.reading, "alone": choice.alone}
    if ratings:
        report = {"loss": task.loss(choice.predictions), **chosen}
        return Part(choice.predictions, {**report, "penalty": choice.penalty})
    columns = standardised(features.columns(choice.reading), free=False)[0].astype(np.float64)
    predictions = np.zeros((len(_STATE_PENALTIES), len(task)))
    for fold in range(int(folds.max()) + 1):
        train, tested = folds != fold, folds == fold
        weights = None
        for place, penalty in enumerate(_STATE_PENALTIES):
            trust, margins = task.trust[train], task.values[train]
            weights = logistic(columns[train], penalty, trust, margins, weights)
            predictions[place, tested] = columns[tested] @ weights
    losses = [task.loss(values) for values in predictions]
    best = int(np.argmin(losses))
    report = {"loss": losses[best], **chosen}
    return Part(predictions[best], {**report, "penalty": _STATE_PENALTIES[best]})


def fit_states(columns: NDArray[np.float32], task: Task, penalty: float) -> tuple[Floats, float]:
    """Fits the hidden states of a whole task.

    Args:
        columns: float32 `(N, D)`, as a `Reading` gives them.
        task: What to learn.
        penalty: As chosen.

    Returns:
        Weights of the columns as they are, float64 `(D,)`, and the intercept.
    """
    ratings = task.kind == "ratings"
    scaled, means, scales = standardised(columns, free=ratings)
    if ratings:
        solution, shift = ridge(scaled.astype(np.float64), task.values, penalty, task.trust)
    else:
        wide = scaled.astype(np.float64)
        solution, shift = logistic(wide, penalty, task.trust, task.values), 0.0
    weights = solution / scales
    return weights, shift - float(means @ weights)


# ------------------------------------------------------------------ together


def weigh(parts: Sequence[Part], task: Task) -> Floats:
    """How much of each part makes the best sum on left-out folds, float64 `(K,)`, at least 0.

    Where nothing predicts anything the part that does least harm counts by itself.
    """
    columns = np.stack([part.predictions for part in parts], axis=1)
    if task.kind == "ratings":
        mean = float(task.trust @ task.values / task.trust.sum())
        root = np.sqrt(task.trust)
        centred = columns - mean

        def fit(chosen: Floats) -> Floats:
            left, right = root[:, None] * chosen, root * (task.values - mean)
            return np.linalg.lstsq(left, right, rcond=None)[0].astype(np.float64)

        weights = stacked(centred, fit, lambda predicted: task.loss(predicted + mean))
    else:

        def fit(chosen: Floats) -> Floats:
            return logistic(chosen, 1e-6 * len(task), task.trust, task.values)

        weights = stacked(columns, fit, task.loss)
    if not weights.any():
        weights[int(np.argmin([part.report["loss"] for part in parts]))] = 1.0
    return weights
