"""Rated texts from a file, the quarters to tell apart, and the folds."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FEWEST = 100
"""Rated texts: with less, a fold of ten has next to nothing of the outer quarters."""


class Rated(NamedTuple):
    """N rated texts.

    Attributes:
        texts: What was rated, N.
        ratings: float64 `(N, R)`, NaN where a text has fewer ratings than others.
        scores: float64 `(N,)`, by which the quarters are made.
        sha256: Fingerprint of the file they come from.
    """

    texts: list[str]
    ratings: NDArray[np.float64]
    scores: NDArray[np.float64]
    sha256: str

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean rating of each text, float64 `(N,)`."""
        means: NDArray[np.float64] = np.nanmean(self.ratings, axis=1)
        return means


def read(path: str | Path) -> Rated:
    """Reads JSON lines with `text`, `ratings` (a list of numbers) and `score` (a number).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line that is none of this, too few lines, or ratings that say nothing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}; --data names the rated texts")
    content = path.read_bytes()
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(content.decode("utf-8").split("\n"), start=1):
        if line.strip():
            rows.append(_row(line, f"{path}, line {number}"))
    if len(rows) < FEWEST:
        raise ValueError(f"{path} has {len(rows)} rated texts, too few: at least {FEWEST}")
    most = max(len(row["ratings"]) for row in rows)
    ratings = np.full((len(rows), most), np.nan)
    for index, row in enumerate(rows):
        ratings[index, : len(row["ratings"])] = row["ratings"]
    rated = Rated(
        texts=[row["text"] for row in rows],
        ratings=ratings,
        scores=np.array([row["score"] for row in rows], dtype=np.float64),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    if np.ptp(rated.means) == 0:
        raise ValueError(f"{path} is one-sided: all mean ratings are {rated.means[0]:g}")
    quarters(rated.scores)
    return rated


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: must be an object, got {line:.60}")
    for key in ("text", "ratings", "score"):
        if key not in row:
            raise ValueError(f"{where}: has no {key!r}; text, ratings and score are needed")
    if not isinstance(row["text"], str) or not row["text"].strip():
        raise ValueError(f"{where}: text must be a string that is not empty, got {row['text']!r}")
    ratings = row["ratings"]
    if not isinstance(ratings, list) or not ratings or not all(map(_is_number, ratings)):
        raise ValueError(f"{where}: ratings must be a list of finite numbers, got {ratings!r:.60}")
    if not _is_number(row["score"]):
        raise ValueError(f"{where}: score must be a finite number, got {row['score']!r:.60}")
    return row


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def quarters(scores: NDArray[np.float64]) -> NDArray[np.int8]:
    """The classes of Danescu-Niculescu-Mizil et al. 2013 (arXiv:1306.6078), section 5.

    Args:
        scores: float `(N,)`.

    Returns:
        int8 `(N,)`: 1 for the top quarter, -1 for the bottom quarter, 0 for the half between.

    Raises:
        ValueError: So many scores are the same that the quarters are not apart.
    """
    low, high = np.quantile(scores, [0.25, 0.75])
    if not low < high:
        raise ValueError(
            f"the scores are one-sided: top and bottom quarter both reach {low:g}, so there are no "
            "two classes to tell apart"
        )
    return (scores >= high).astype(np.int8) - (scores <= low).astype(np.int8)


def folds(texts: list[str], number: int, seed: int) -> NDArray[np.int64]:
    """Deals the texts out at random; equal texts go to the same fold.

    Returns:
        int64 `(N,)`: the fold in which each text is tested.
    """
    first: dict[str, int] = {}
    group = [first.setdefault(text, len(first)) for text in texts]
    order = np.random.default_rng(seed).permutation(len(first))
    fold = np.empty(len(first), dtype=np.int64)
    fold[order] = np.arange(len(first)) % number
    return fold[group]
