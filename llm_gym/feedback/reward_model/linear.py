"""Linear models with a ridge penalty: of ratings (least squares) and of comparisons (logistic).

Both are convex, so what is returned does not depend on where the search began. Matrices are dense
arrays or `words.Sparse`; what is done with them is products with vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from llm_gym.feedback.reward_model.words import Sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Matrix: TypeAlias = Floats | Sparse
    Product: TypeAlias = Callable[[Floats], Floats]

_NEWTON_STEPS = 50
_TOLERANCE = 1e-5  # of the gradient, beside its length at weights 0


def ridge(
    matrix: Matrix, targets: Floats, penalty: float, weights: Floats | None = None
) -> tuple[Floats, float]:
    """Least squares with a ridge penalty and a free intercept, by conjugate gradients.

    Args:
        matrix: N rows of d numbers.
        targets: float64 `(N,)`.
        penalty: Weight of the squared length of the solution, beside the sum of the squared errors.
        weights: float64 `(N,)`, of each row's squared error; None weighs all alike.

    Returns:
        The d weights, and the intercept.
    """
    trust = np.ones(len(targets)) if weights is None else weights
    times, transposed = products(matrix)
    means = transposed(trust) / trust.sum()
    mean = float(trust @ targets / trust.sum())

    def centred(vector: Floats) -> Floats:
        return times(vector) - means @ vector

    def pulled(errors: Floats) -> Floats:
        weighed = trust * errors
        return transposed(weighed) - means * weighed.sum()

    solution = conjugate_gradients(
        lambda vector: pulled(centred(vector)) + penalty * vector, pulled(targets - mean)
    )
    return solution, mean - float(means @ solution)


def logistic(
    matrix: Matrix,
    penalty: float,
    weights: Floats | None = None,
    margins: Floats | None = None,
    start: Floats | None = None,
) -> Floats:
    """Minimises `sum of w log(1 + exp(m - x s)) + penalty / 2 |s|^2` over s, by Newton's method.

    Args:
        matrix: N rows x of d numbers: features of the chosen answer less those of the rejected.
        penalty: Above 0. `LogisticRegression(C=1 / penalty, fit_intercept=False)` is the same.
        weights: float64 `(N,)`, w; None weighs all alike.
        margins: float64 `(N,)`, m; None is 0.
        start: Where to begin; None is 0.

    Returns:
        s, float64 `(d,)`.
    """
    times, transposed = products(matrix)
    trust = np.ones(len(matrix)) if weights is None else weights
    offset = np.zeros(len(matrix)) if margins is None else margins
    width = len(transposed(np.zeros(len(matrix))))
    solution = np.zeros(width) if start is None else start.copy()

    def loss(point: Floats, differences: Floats) -> float:
        surprise = trust @ np.logaddexp(0, offset - differences)
        return float(surprise + penalty / 2 * point @ point)

    differences = times(solution)
    first = np.linalg.norm(transposed(trust * _sigmoid(offset)))
    for _ in range(_NEWTON_STEPS):
        wrong = _sigmoid(offset - differences)
        gradient = penalty * solution - transposed(trust * wrong)
        length = np.linalg.norm(gradient)
        if length <= _TOLERANCE * first:
            break
        curvature = trust * wrong * (1 - wrong)
        step = conjugate_gradients(
            lambda vector, curvature=curvature: (  # type: ignore[misc]
                transposed(curvature * times(vector)) + penalty * vector
            ),
            -gradient,
            tolerance=min(0.1, float(np.sqrt(length / first))) if first else 0.1,
        )
        moved, before, size = times(step), loss(solution, differences), 1.0
        while loss(solution + size * step, differences + size * moved) > before and size > 1e-6:
            size /= 2
        solution, differences = solution + size * step, differences + size * moved
    return solution


def stacked(
    parts: Floats, fit: Callable[[Floats], Floats], loss: Callable[[Floats], float]
) -> Floats:
    """The best weights of at least 0 for a sum of a few parts.

    With a convex loss the best of all subsets whose free solution has no negative weight is exact.

    Args:
        parts: float64 `(N, K)`, predictions of K parts.
        fit: Takes some of the columns and returns their best weights of any sign.
        loss: Of the sum's prediction, float64 `(N,)`.

    Returns:
        float64 `(K,)`; all 0 where no part is of any use.
    """
    number = parts.shape[1]
    best, least = np.zeros(number), loss(np.zeros(len(parts)))
    for size in range(1, number + 1):
        for chosen in combinations(range(number), size):
            found = fit(parts[:, chosen])
            if (found < 0).any():
                continue
            reached = loss(parts[:, chosen] @ found)
            if reached < least:
                best, least = np.zeros(number), reached
                best[list(chosen)] = found
    return best


def products(matrix: Matrix) -> tuple[Product, Product]:
    """What a matrix and its transposed one do to vectors."""
    if isinstance(matrix, Sparse):
        return matrix.times, matrix.transposed_times
    dense = matrix
    return lambda vector: dense @ vector, lambda vector: dense.T @ vector


def conjugate_gradients(
    times: Product, right: Floats, *, tolerance: float = 1e-6, most: int = 1000
) -> Floats:
    """Solves `A x = right` for a symmetric positive definite A (Hestenes and Stiefel 1952).

    Args:
        times: A times a vector.
        right: float64 `(d,)`.
        tolerance: Length of what is left, beside that of the right side.
        most: Steps, at most.
    """
    solution, left = np.zeros_like(right), right.copy()
    direction, square = left.copy(), float(left @ left)
    limit = tolerance**2 * square
    for _ in range(most):
        if square <= limit:
            break
        moved = times(direction)
        size = square / float(direction @ moved)
        solution += size * direction
        left -= size * moved
        before, square = square, float(left @ left)
        direction = left + square / before * direction
    return solution


def _sigmoid(values: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(values / 2))  # a form that does not overflow
