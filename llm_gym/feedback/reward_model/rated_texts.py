"""Texts that people have rated, from files and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llm_gym.files.encoding import check_text
from llm_gym.files.rows import Note, as_list, parse_rows, read_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RatedTexts(NamedTuple):
    """Texts with their ratings.

    Attributes:
        texts: N texts.
        ratings: float64 `(N, R)`, with NaN where there are fewer than R.
        places: Where each was read, for messages.
    """

    texts: list[str]
    ratings: NDArray[np.float64]
    places: list[str]


def read_ratings(source: Any, *, bad_rows: str = "error") -> tuple[list[str], NDArray[np.float64]]:
    """The texts and ratings of `read_rated_texts`, for `train_rating_model`."""
    rated = read_rated_texts(source, bad_rows=bad_rows)
    return rated.texts, rated.ratings


def read_rated_texts(source: Any, *, bad_rows: str = "error") -> RatedTexts:
    """Reads texts with ratings.

    Args:
        source: What `llm_gym.files.rows.read_rows` reads; every row has "text" and "ratings", a
            number or a list of numbers (null where a rater gave none).
        bad_rows: "error", or "skip" to leave out rows that cannot be read, with a warning.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: Not something ratings can be read from.
        ValueError: A row lacks one of them; the message has its place.
    """
    rows = read_rows(source, "ratings")
    found = parse_rows(rows, _rated, source, "ratings", bad_rows=bad_rows)
    by_rater = list(zip_longest(*(ratings for _, (_, ratings) in found), fillvalue=np.nan))
    return RatedTexts(
        [text for _, (text, _) in found],
        np.array(by_rater, dtype=np.float64).T,
        [place for place, _ in found],
    )


def _rated(row: Any, note: Note) -> tuple[str, list[float]]:
    if not isinstance(row, Mapping):
        raise TypeError(f'needs an object with "text" and "ratings", got {row!r:.80}')
    check_text("text", row.get("text"))
    ratings = as_list(row.get("ratings"))
    if isinstance(ratings, str):  # a cell of CSV
        with suppress(ValueError, RecursionError):
            ratings = json.loads(ratings)
    if isinstance(ratings, list):
        ratings = [np.nan if rating is None else rating for rating in ratings]
    listed = ratings if isinstance(ratings, list) else [ratings]
    for rating in listed:
        if isinstance(rating, bool) or not isinstance(rating, (int, float)):
            raise ValueError(
                f'"ratings" must be a number or a list of numbers, got {row.get("ratings")!r:.80}'
            )
    if not all(np.isnan(rating) or np.isfinite(rating) for rating in listed):
        raise ValueError(f'"ratings" must be finite, got {row.get("ratings")!r:.80}')
    if all(np.isnan(rating) for rating in listed):
        raise ValueError('"ratings" has no number: the text is not rated')
    return row["text"], listed
