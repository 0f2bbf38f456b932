"""How many comparisons a reward model of a wished accuracy needs, from those measured so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llm_gym.scorers.checking import finite_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LearningCurve", "fit_learning_curve"]


@dataclass(frozen=True)
class LearningCurve:
    """`error(n) = floor + scale * n ** -exponent`, a power law with a floor.

    The floor is what no number of comparisons mends: raters who disagree, a model too small.

    Attributes:
        floor: Error that remains.
        scale: Error above the floor at n = 1.
        exponent: How fast it falls.
        largest: Largest n that was measured; beyond it the curve is a guess.
    """

    floor: float
    scale: float
    exponent: float
    largest: int

    def accuracy(self, comparisons: float) -> float:
        """Expected accuracy after training on so many comparisons (at least 1)."""
        return 1 - self.floor - self.scale * float(comparisons) ** -self.exponent

    def comparisons_for(self, accuracy: float) -> int:
        """Comparisons needed for an accuracy; more than `largest` is an extrapolation.

        Raises:
            ValueError: The curve never gets there.
        """
        room = 1 - self.floor - finite_number("accuracy", accuracy)
        if room <= 0 or (self.exponent == 0 and room < self.scale):
            raise ValueError(
                f"accuracy={accuracy!r} is out of reach: the learning curve ends at "
                f"{1 - self.floor:.3f} however many comparisons there are"
            )
        if self.scale <= room:
            return 1
        return math.ceil(round((self.scale / room) ** (1 / self.exponent), 6))


def fit_learning_curve(
    comparisons: Sequence[int], accuracies: Sequence[float], *, floor: float | None = None
) -> LearningCurve:
    """Fits a power law to measured accuracies, by least squares on the error.

    For a given exponent the law is linear in floor and scale, so the exponent alone is searched
    for, on a fine grid from 0.02 to 2.

    Args:
        comparisons: Sizes of the training sets, at least 3 different ones (2 if the floor is
            given), each at least 1.
        accuracies: On the same held-out comparisons, in [0, 1].
        floor: Error that remains, if it is known (one minus the agreement of raters, say).

    Returns:
        The curve; floor and scale are at least 0.

    Raises:
        ValueError: Too few points, or a number out of range.
    """
    sizes = np.asarray(comparisons, dtype=np.float64)
    errors = 1 - np.asarray(accuracies, dtype=np.float64)
    needed = 3 if floor is None else 2
    if sizes.shape != errors.shape or sizes.ndim != 1 or len(set(sizes.tolist())) < needed:
        raise ValueError(
            f"a learning curve needs at least {needed} different numbers of comparisons with an "
            f"accuracy each, got comparisons={list(comparisons)}, accuracies={list(accuracies)}"
        )
    if not ((sizes >= 1) & (errors >= 0) & (errors <= 1)).all():
        raise ValueError(
            "comparisons must be at least 1 and accuracies in [0, 1], got "
            f"comparisons={list(comparisons)}, accuracies={list(accuracies)}"
        )
    fits = [
        (*_linear_fit(sizes**-exponent, errors, floor), float(exponent))
        for exponent in np.linspace(0.02, 2.0, 1981)
    ]
    _, best_floor, scale, exponent = min(fits)
    return LearningCurve(best_floor, scale, exponent, int(sizes.max()))


def _linear_fit(
    powers: NDArray[np.float64], errors: NDArray[np.float64], floor: float | None
) -> tuple[float, float, float]:
    """Squared error, floor and scale of the best `floor + scale * powers` with both at least 0."""

    def judged(candidate_floor: float, candidate_scale: float) -> tuple[float, float, float]:
        residual = errors - candidate_floor - candidate_scale * powers
        return float(residual @ residual), candidate_floor, candidate_scale

    def best_scale(fixed_floor: float) -> float:
        return max(0.0, float(powers @ (errors - fixed_floor) / (powers @ powers)))

    if floor is not None:
        return judged(floor, best_scale(floor))
    centred = powers - powers.mean()
    scale = float(centred @ errors / (centred @ centred))
    free_floor = float(errors.mean() - scale * powers.mean())
    if scale >= 0 and free_floor >= 0:
        return judged(free_floor, scale)
    # The optimum lies on the border of what is allowed.
    return min(judged(0.0, best_scale(0.0)), judged(float(errors.mean()), 0.0))
