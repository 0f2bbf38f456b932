"""Texts as vectors of their words and pairs of neighbouring words (TF-IDF), and their margins.

The numbers are those of scikit-learn's `TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)`:
a term that a text has n times counts `1 + ln n`, times `1 + ln((1 + N) / (1 + N_t))` where N_t of N
training texts have it, and every text's vector has length 1. Terms of no training text are unknown.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llm_gym.files import schema
from llm_gym.files.atomic import write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

TERMS = "reward_words.json"
"""File of the terms; its presence says that a reward model has words, too."""

_NUMBERS = "reward_words.safetensors"
_MOST_TERMS = 10_000_000
_WORD = re.compile(r"(?u)\b\w\w+\b")  # scikit-learn's own
_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Sparse:
    """A matrix of which most is 0, row after row.

    Attributes:
        starts: int64 `(N + 1,)`: where each row's entries start, and where the last one's end.
        columns: int64 `(E,)`, of each entry.
        values: float64 `(E,)`.
        width: Number of columns.
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float64]
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row of each entry, int64 `(E,)`."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def times(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The matrix times a vector, float64 `(N,)`."""
        sums = np.concatenate([[0.0], np.cumsum(self.values * weights[self.columns])])
        return sums[self.starts[1:]] - sums[self.starts[:-1]]

    def transposed_times(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The transposed matrix times a vector, float64 `(width,)`."""
        spread = self.values * np.repeat(weights, np.diff(self.starts))
        return np.bincount(self.columns, spread, self.width).astype(np.float64)

    def take(self, rows: NDArray[np.int64]) -> Sparse:
        """Some of the rows, in the order given."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return Sparse(starts, self.columns[places], self.values[places], self.width)

    def less(self, other: Sparse) -> Sparse:
        """This matrix less another one of the same shape; entries of both stay apart."""
        both = np.concatenate([self.rows, other.rows])
        order = np.argsort(both, kind="stable")
        counts = np.diff(self.starts) + np.diff(other.starts)
        return Sparse(
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([self.columns, other.columns])[order],
            np.concatenate([self.values, -other.values])[order],
            self.width,
        )


class Terms:
    """Which terms some texts have, and how often: read once, for vectors of any part of them.

    Args:
        texts: N texts.
        marks: Whether single letters and punctuation marks are words, too.
        index: Places of the terms that are known; None knows all that occur.

    Attributes:
        index: Places of the terms.
        counts: The logarithm of how often each text has each term, plus 1.
    """

    def __init__(
        self, texts: Sequence[str], *, marks: bool, index: dict[str, int] | None = None
    ) -> None:
        grow = index is None
        self.index: dict[str, int] = {} if index is None else index
        self.marks = marks
        starts, columns, numbers = [0], [], []
        for text in texts:
            found = Counter(_terms(text, marks))
            for term, number in found.items():
                place = (
                    self.index.setdefault(term, len(self.index)) if grow else self.index.get(term)
                )
                if place is not None:
                    columns.append(place)
                    numbers.append(number)
            starts.append(len(columns))
        values = 1 + np.log(np.array(numbers, dtype=np.float64))
        self.counts = Sparse(
            np.array(starts, dtype=np.int64), np.array(columns, np.int64), values, len(self.index)
        )

    def rarity(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """How rare each term is among some of the texts, float64 `(terms,)`; 0 if in none."""
        occurs = np.bincount(self.counts.take(rows).columns, minlength=len(self.index))
        return np.where(occurs > 0, np.log((1 + len(rows)) / (1 + occurs)) + 1, 0.0)

    def vectors(self, rarity: NDArray[np.float64]) -> Sparse:
        """Vectors of length 1 of all texts, or 0 where a text has no known term."""
        counts = self.counts
        values = counts.values * rarity[counts.columns]
        squares = np.bincount(counts.rows, values**2, len(counts))
        lengths = np.sqrt(np.where(squares > 0, squares, 1.0))
        values = values / np.repeat(lengths, np.diff(counts.starts))
        return Sparse(counts.starts, counts.columns, values, counts.width)


@dataclass(frozen=True)
class WordWeights:
    """A linear function of a text's words.

    Attributes:
        terms: V terms: words, and two neighbouring words with a space between.
        rarity: float64 `(V,)`.
        weights: float64 `(V,)`.
        marks: Whether single letters and punctuation marks are words.
    """

    terms: list[str]
    rarity: NDArray[np.float64]
    weights: NDArray[np.float64]
    marks: bool

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The function of each of N texts, float64 `(N,)`; 0 of one without a known term."""
        found = Terms(texts, marks=self.marks, index=self._index)
        return found.vectors(self.rarity).times(self.weights)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {term: place for place, term in enumerate(self.terms)}

    def scaled(self, factor: float) -> WordWeights:
        """The same function times a number."""
        return WordWeights(self.terms, self.rarity, factor * self.weights, self.marks)

    def strongest(self, number: int = 10) -> list[tuple[str, float]]:
        """The terms with the greatest weights by size, `rarity` included, and these."""
        worth = self.rarity * self.weights
        order = np.argsort(-np.abs(worth), kind="stable")[:number]
        return [(self.terms[place], float(worth[place])) for place in order]


def _terms(text: str, marks: bool) -> list[str]:
    words = (_WORD_OR_MARK if marks else _WORD).findall(text.lower())
    return words + [f"{first} {second}" for first, second in itertools.pairwise(words)]


def save_words(words: WordWeights, directory: str | Path) -> None:
    """Writes terms as JSON, and their two numbers as safetensors, into a directory."""
    from safetensors.numpy import save_file

    directory = Path(directory)
    write_json(directory / TERMS, {"format": 1, "marks": words.marks, "terms": words.terms})
    numbers = {"rarity": words.rarity, "weights": words.weights}
    save_file(numbers, directory / _NUMBERS, metadata={"format": "np"})


def load_words(directory: str | Path) -> WordWeights | None:
    """Reads what `save_words` wrote; None where there is nothing.

    Raises:
        ValueError: A file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    directory = Path(directory)
    if not (directory / TERMS).is_file():
        return None
    content = schema.read_json(directory / TERMS)
    check = schema.record(
        {
            "format": schema.one_of(1),
            "marks": schema.boolean,
            "terms": schema.list_of(schema.text, longest=_MOST_TERMS),
        }
    )
    schema.check_file(directory / TERMS, check, content)
    terms = content["terms"]
    try:
        numbers = load_file(directory / _NUMBERS)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{directory / _NUMBERS} cannot be read: {error}") from error
    for name in ("rarity", "weights"):
        values = numbers.get(name)
        if values is None or values.shape != (len(terms),) or not np.isfinite(values).all():
            raise ValueError(
                f"{directory / _NUMBERS}: {name!r} must be {len(terms)} finite numbers, one for "
                f"each term of {TERMS}"
            )
    rarity, weights = (numbers[name].astype(np.float64) for name in ("rarity", "weights"))
    return WordWeights(terms, rarity, weights, content["marks"])
