"""Scorers made of scorers: weighted sum, clip, scale.

Each reports the values that its parts had before it touched them in `Scores.parts`; the parts of a
part are called `outer/inner`. A part that returns None for a completion ("not my task") says
nothing of it: in a sum the others count.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from llm_gym.scorers.checking import finite_number
from llm_gym.scorers.protocol import Columns, Scorer, Scores, as_scorer, or_none


class WeightedSum(Scorer):
    """The sum of several scores, each times its weight.

    `Scores.parts` has each part's own value, before its weight. A part of weight 0 is computed and
    reported but earns nothing: the place for a held-out score that must not be optimised. Where a
    part returns None, the sum of the others counts; where none with a weight is left, the sum has
    no score either.

    Args:
        parts: Name -> (scorer, weight); the scorer may be a callable, or known by name. Names of
            parts must not contain "/".
        name: Name in messages.

    Raises:
        TypeError: An entry is not a pair, its scorer is not callable, or its weight no number.
        ValueError: No parts, a name with "/", or a weight that is not finite.
    """

    def __init__(
        self,
        parts: Mapping[str, tuple[Scorer | Callable[..., Any] | str, float]],
        *,
        name: str = "weighted_sum",
    ) -> None:
        if not parts:
            raise ValueError("parts is empty; pass at least one {name: (scorer, weight)}")
        self.name = name
        self.parts: dict[str, Scorer] = {}
        self.weights: dict[str, float] = {}
        for part, entry in parts.items():
            if not part or "/" in part:
                raise ValueError(
                    f"part name {part!r} must not be empty or contain '/', which separates the "
                    "names of nested parts"
                )
            if not isinstance(entry, tuple) or len(entry) != 2:
                raise TypeError(f"parts[{part!r}] must be a pair (scorer, weight), got {entry!r}")
            scorer, weight = entry
            self.parts[part] = as_scorer(scorer)
            self.weights[part] = finite_number(f"the weight of part {part!r}", weight)

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        """Score with each part and add up. See `Scorer.compute`."""
        total = np.zeros(len(prompts))
        left_out, paid = np.zeros(len(prompts), bool), np.zeros(len(prompts), bool)
        parts: dict[str, np.ndarray] = {}
        for part, scorer in self.parts.items():
            scores = scorer.score(prompts, completions, columns, allow_none=True)
            none = np.isnan(scores.values)
            with np.errstate(over="ignore", invalid="ignore"):  # `score` reports what overflows
                total += np.where(none, 0.0, self.weights[part] * scores.values)
            left_out |= none
            paid |= ~none & (self.weights[part] != 0)
            parts.update(_nested(part, scores))
        return _scores(total, left_out & ~paid, parts)

    def __repr__(self) -> str:
        terms = (f"{part!r}: ({self.parts[part]!r}, {self.weights[part]!r})" for part in self.parts)
        return f"WeightedSum({{{', '.join(terms)}}})"


class Clip(Scorer):
    """A score held between two bounds.

    Args:
        scorer: The scorer; its own value is reported as the part called by its name.
        low: Lower bound; `-inf` for none.
        high: Upper bound; `inf` for none.
        name: Name in messages.

    Raises:
        TypeError: `scorer` is not callable or a bound is no number.
        ValueError: `low` is not below `high`, or a bound is NaN.
    """

    def __init__(
        self,
        scorer: Scorer | Callable[..., Any] | str,
        low: float,
        high: float,
        *,
        name: str = "clip",
    ) -> None:
        for parameter, value in (("low", low), ("high", high)):
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise TypeError(f"{parameter} must be a number, got {value!r}")
        if not low < high:
            raise ValueError(f"low must be below high, got low={low!r} and high={high!r}")
        self.name = name
        self.scorer = as_scorer(scorer)
        self.low = float(low)
        self.high = float(high)

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        """Score and clip. See `Scorer.compute`."""
        scores = self.scorer.score(prompts, completions, columns, allow_none=True)
        clipped = scores.values.clip(self.low, self.high)
        return _scores(clipped, np.isnan(scores.values), _nested(self.scorer.name, scores))

    def __repr__(self) -> str:
        return f"Clip({self.scorer!r}, {self.low!r}, {self.high!r})"


class Scale(Scorer):
    """A score times `factor`, plus `offset`.

    Args:
        scorer: The scorer; its own value is reported as the part called by its name.
        factor: What to multiply by.
        offset: What to add after that.
        name: Name in messages.

    Raises:
        TypeError: `scorer` is not callable, or `factor` or `offset` is no number.
        ValueError: `factor` or `offset` is not finite.
    """

    def __init__(
        self,
        scorer: Scorer | Callable[..., Any] | str,
        factor: float = 1.0,
        offset: float = 0.0,
        *,
        name: str = "scale",
    ) -> None:
        self.name = name
        self.scorer = as_scorer(scorer)
        self.factor = finite_number("factor", factor)
        self.offset = finite_number("offset", offset)

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        """Score and scale. See `Scorer.compute`."""
        scores = self.scorer.score(prompts, completions, columns, allow_none=True)
        with np.errstate(over="ignore"):  # `score` reports what overflows
            values = scores.values * self.factor + self.offset
        return _scores(values, np.isnan(scores.values), _nested(self.scorer.name, scores))

    def __repr__(self) -> str:
        return f"Scale({self.scorer!r}, {self.factor!r}, {self.offset!r})"


def _scores(values: np.ndarray, none: np.ndarray, parts: Mapping[str, Any]) -> Scores:
    """Scores with None where `none` says so; any other NaN stays one, and `score` refuses it."""
    if not none.any():
        return Scores(values, parts)
    pairs = zip(values.tolist(), none.tolist(), strict=True)
    return Scores([None if absent else value for value, absent in pairs], parts)  # type: ignore[arg-type]


def _nested(name: str, scores: Scores) -> dict[str, Any]:
    inner = {f"{name}/{part}": or_none(values) for part, values in scores.parts.items()}
    return {name: or_none(scores.values), **inner}
