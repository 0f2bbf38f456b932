"""Which layers of a frozen model to read, and how strongly to shrink: by cross-validation.

Features are columns of numbers that were pooled once. Every choice is measured by a least-squares
fit in closed form on some folds, applied to the fold that is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

PENALTIES = (100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
"""Of the squared length of the weights of standardised features, beside the squared errors."""

_COLUMNS = 1536  # of all layers that are read, more or less
_MOST_LAYERS = 4  # that are read together
_MOST_RUNS = 12


class Target(NamedTuple):
    """What N rows of features are to predict.

    Attributes:
        values: float64 `(N,)`.
        trust: float64 `(N,)`, weight of each row's error.
        free: Whether there is an intercept, so that features and values are centred. Differences
            of two texts have none.
    """

    values: Floats
    trust: Floats
    free: bool


class Features(NamedTuple):
    """Pooled hidden states of texts, each read once, and which texts the rows of a task are.

    Attributes:
        values: float32 `(L, T, D)`, of T different texts.
        places: int64 `(S, N)`: the text of each row and side: one that was rated, or the chosen and
            the rejected one.
    """

    values: NDArray[np.float32]
    places: NDArray[np.int64]

    def columns(self, reading: Reading) -> NDArray[np.float32]:
        """What is read of each row's text, or of its chosen less its rejected one, `(N, ...)`."""
        texts = reading.columns(self.values)
        if len(self.places) == 1:
            return texts[self.places[0]]
        return texts[self.places[0]] - texts[self.places[1]]


class Reading(NamedTuple):
    """Layers that are read together.

    Attributes:
        layers: Their numbers.
        averaged: Whether their vectors are averaged, instead of standing one after the other. With
            few or noisy ratings fewer numbers are better.
    """

    layers: tuple[int, ...]
    averaged: bool = False

    @property
    def vectors(self) -> int:
        """How many vectors stand side by side."""
        return 1 if self.averaged else len(self.layers)

    def columns(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is read of features float32 `(L, N, D)`: float32 `(N, D or len(layers) * D)`."""
        if self.averaged:
            return features[list(self.layers)].mean(axis=0)
        return np.concatenate([features[layer] for layer in self.layers], axis=1)

    def spread(self, weights: Floats) -> Floats:
        """Weights of `columns` as weights of the layers' vectors one after the other."""
        if self.averaged:
            return np.tile(weights / len(self.layers), len(self.layers))
        return weights

    def split(self, number: int) -> tuple[int, Reading]:
        """Which of several blocks of so many layers it lies in, and the reading inside that."""
        place = self.layers[0] // number
        return place, self.behind(-place * number)

    def behind(self, number: int) -> Reading:
        """The same of layers that stand so many places further."""
        return Reading(tuple(layer + number for layer in self.layers), self.averaged)


class Choice(NamedTuple):
    """What predicts best what was left out.

    Attributes:
        reading: Which layers.
        penalty: One of `PENALTIES`.
        errors: Mean squared error on left-out folds by the penalties that were tried.
        predictions: float64 `(N,)`, of each row while its fold was left out.
        alone: Of each single layer that was tried its number, and the share of the values' variance
            (of differences: of their mean square) that it explains on left-out folds.
    """

    reading: Reading
    penalty: float
    errors: Floats
    predictions: Floats
    alone: tuple[tuple[int, float], ...] = ()

    @property
    def error(self) -> float:
        """The least of `errors`."""
        return float(self.errors.min())


def readings(layers: int, width: int) -> list[Reading]:
    """What to choose from: runs of neighbouring layers, side by side and averaged, and single ones.

    Up to four layers stand side by side, and no more than make about 1,536 columns; of many runs
    or layers twelve are tried, evenly spread. The average of all blocks is tried, too.

    Args:
        layers: How many hidden states there are, the embeddings included.
        width: Length of each.
    """
    size = max(1, min(_MOST_LAYERS, _COLUMNS // width, layers))
    runs = [tuple(range(start, start + size)) for start in _some(layers - size + 1)]
    found = [Reading(run) for run in runs]
    if size > 1:
        found += [Reading(run, averaged=True) for run in runs]
        found += [Reading((layer,)) for layer in _some(layers)]
    if layers > 2:
        found.append(Reading(tuple(range(1, layers)), averaged=True))
    return list(dict.fromkeys(found))


def _some(number: int) -> list[int]:
    """Numbers from 0, evenly spread where they are many."""
    if number <= _MOST_RUNS:
        return list(range(number))
    return [int(place) for place in np.linspace(0, number - 1, _MOST_RUNS).round()]


def choose_layers(
    features: Features,
    candidates: Sequence[Reading],
    target: Target,
    folds: NDArray[np.int64],
) -> Choice:
    """The candidate and the penalty with the least squared error on left-out folds.

    Args:
        features: Of N rows.
        candidates: What to choose from.
        target: What is to be predicted.
        folds: int64 `(N,)`, from 0.
    """
    found: list[Choice] = []
    for reading in sorted(candidates, key=lambda reading: reading.vectors):
        penalties: Sequence[float] = PENALTIES
        narrow = [choice for choice in found if choice.reading.vectors == 1]
        if reading.vectors > 1 and narrow:  # what one vector wants tells what several may want
            place = PENALTIES.index(min(narrow, key=lambda choice: choice.error).penalty)
            penalties = PENALTIES[max(0, place - 1) : place + 3]
        columns = standardised(features.columns(reading), target.free)[0]
        found.append(_measured(columns, reading, target, folds, penalties))
    mean = target.trust @ target.values / target.trust.sum() if target.free else 0.0
    spread = float(target.trust @ (target.values - mean) ** 2 / target.trust.sum())
    alone = [
        (choice.reading.layers[0], 1 - choice.error / spread)
        for choice in found
        if len(choice.reading.layers) == 1
    ]
    return min(found, key=lambda choice: choice.error)._replace(alone=tuple(alone))


def standardised(
    columns: NDArray[np.float32], free: bool
) -> tuple[NDArray[np.float32], Floats, Floats]:
    """Columns of variance 1, and what was taken from and divided into them.

    Args:
        columns: float32 `(N, D)`.
        free: Take the mean away; else it is 0, and the mean square becomes 1.

    Returns:
        float32 `(N, D)`, float64 `(D,)` and float64 `(D,)`; a constant column becomes 0.
    """
    means: Floats = np.zeros(columns.shape[1])
    if free:
        means = columns.mean(axis=0, dtype=np.float64)
    centred: NDArray[np.float32] = columns - means.astype(np.float32)
    squares: Floats = np.einsum("nd,nd->d", centred, centred, dtype=np.float64)
    scales = np.sqrt(squares / len(columns))
    scales = np.where(scales > 1e-6 * (1 + np.abs(means)), scales, np.inf)
    return np.asarray(centred / scales.astype(np.float32), dtype=np.float32), means, scales


def _measured(
    columns: NDArray[np.float32],
    reading: Reading,
    target: Target,
    folds: NDArray[np.int64],
    penalties: Sequence[float],
) -> Choice:
    few = len(columns) < columns.shape[1]
    predictions = (_by_rows if few else _by_columns)(columns, target, folds, penalties)
    errors = (target.trust * (predictions - target.values) ** 2).mean(axis=1) / target.trust.mean()
    best = int(errors.argmin())
    return Choice(reading, penalties[best], errors, predictions[best])


def _by_rows(
    columns: NDArray[np.float32],
    target: Target,
    folds: NDArray[np.int64],
    penalties: Sequence[float],
) -> Floats:
    """Left-out predictions `(penalties, N)`, by products of rows: cheaper where they are few."""
    predictions = np.zeros((len(penalties), len(columns)))
    root = np.sqrt(target.trust).astype(np.float32)
    products = columns @ columns.T
    for fold in range(int(folds.max()) + 1):
        train, tested = folds != fold, folds == fold
        total, values = target.trust[train], target.values[train]
        mean = float(total @ values / total.sum()) if target.free else 0.0
        scale = root[train]
        square = products[np.ix_(train, train)] * scale[:, None] * scale
        right = (scale * (values - mean)).astype(np.float32)
        for place, solution in enumerate(_path(square, right, penalties)):
            found = products[np.ix_(tested, train)] @ (scale * solution)
            predictions[place, tested] = found + mean
    return predictions


def _by_columns(
    columns: NDArray[np.float32],
    target: Target,
    folds: NDArray[np.int64],
    penalties: Sequence[float],
) -> Floats:
    """The same by products of columns."""
    squares, sums = _moments(columns, target, folds)
    predictions = np.zeros((len(penalties), len(columns)))
    for fold in range(len(squares)):
        tested = folds == fold
        total, weight = target.trust[~tested], target.trust[~tested].sum()
        mean = float(total @ target.values[~tested] / weight) if target.free else 0.0
        others = [number for number in range(len(squares)) if number != fold]
        square = sum(squares[number] for number in others)
        right = sum(sums[number][0] - mean * sums[number][1] for number in others)
        for place, solution in enumerate(_path(np.asarray(square), np.asarray(right), penalties)):
            predictions[place, tested] = columns[tested] @ solution + mean
    return predictions


def _moments(
    columns: NDArray[np.float32], target: Target, folds: NDArray[np.int64]
) -> tuple[list[NDArray[np.float32]], list[tuple[NDArray[np.float32], NDArray[np.float32]]]]:
    """Of each fold the weighed products of columns, and those with the values and with 1."""
    squares, sums = [], []
    for fold in range(int(folds.max()) + 1):
        inside = folds == fold
        part, trust = columns[inside], target.trust[inside]
        weighed = part * trust[:, None].astype(np.float32)
        squares.append(part.T @ weighed)
        values = target.values[inside].astype(np.float32)
        sums.append((weighed.T @ values, weighed.sum(axis=0)))
    return squares, sums


def _path(
    square: NDArray[np.float32], right: NDArray[np.float32], penalties: Sequence[float]
) -> list[NDArray[np.float32]]:
    """Solutions for some penalties, by Cholesky; to choose one, single precision will do."""
    import torch

    matrix, column = torch.from_numpy(square), torch.from_numpy(right)[:, None]
    solutions = []
    for penalty in penalties:
        shifted = matrix + penalty * torch.eye(len(matrix), dtype=matrix.dtype)
        solution = torch.cholesky_solve(column, torch.linalg.cholesky(shifted))
        solutions.append(solution[:, 0].numpy())
    return solutions
