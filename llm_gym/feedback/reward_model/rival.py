"""The simplest rivals of a reward model: linear functions of which words a text has.

A reward model that predicts people's choices no better than a bag of words has learnt no more than
words. So the two stand side by side wherever a reward model is measured.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.feedback.reward_model.evaluation import (
    accuracy,
    accuracy_gain,
    spearman,
    spearman_gain,
)
from llm_gym.feedback.reward_model.linear import logistic, ridge
from llm_gym.feedback.reward_model.words import Sparse, Terms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm_gym.feedback.preferences import Preference

_WORD = re.compile(r"\w+|[^\w\s]")


def word_margins(
    train: Sequence[Preference], test: Sequence[Preference], *, penalty: float = 1.0
) -> NDArray[np.float64]:
    """Fits the difference of two answers' words to which was chosen, and applies it.

    Answers are vectors of `log(1 + count)` of their words and marks, weighed by how rare these are
    (TF-IDF) and of length 1; the loss is that of Bradley and Terry with a ridge penalty.

    Args:
        train: Comparisons to learn from, at least one.
        test: M comparisons to apply it to.
        penalty: Weight of half the squared length of the weights, beside the sum of the losses.

    Returns:
        float64 `(M,)`: how much more it likes the chosen answer; 0 where no word tells.
    """
    index, rarity = _vocabulary(train)
    weights = logistic(_matrix(train, index, rarity), penalty)
    return _matrix(test, index, rarity).times(weights)


def tfidf_margins(train: Sequence[Preference], test: Sequence[Preference]) -> NDArray[np.float64]:
    """What twenty lines of scikit-learn give: TF-IDF of 1-2-grams, logistic on differences.

    `TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)` of the answers, and
    `LogisticRegression(fit_intercept=False)` of the chosen less the rejected ones.

    Args:
        train: N comparisons to learn from.
        test: M comparisons to apply it to.

    Returns:
        float64 `(M,)`.
    """
    rows = [*train, *test]
    answers = [row.chosen for row in rows] + [row.rejected for row in rows]
    terms = Terms(answers, marks=False)
    learnt = np.arange(len(train))
    vectors = terms.vectors(terms.rarity(np.concatenate([learnt, learnt + len(rows)])))
    places = np.arange(len(rows))
    differences = vectors.take(places).less(vectors.take(places + len(rows)))
    weights = logistic(differences.take(learnt), penalty=1.0)
    return differences.take(places[len(train) :]).times(weights)


def tfidf_ratings(
    texts: Sequence[str], ratings: NDArray[np.float64], test: Sequence[str]
) -> NDArray[np.float64]:
    """The same of ratings: TF-IDF of 1-2-grams, and `Ridge(alpha=1)`.

    Args:
        texts: N texts to learn from.
        ratings: float64 `(N,)`.
        test: M texts.

    Returns:
        float64 `(M,)`, predicted ratings.
    """
    terms = Terms([*texts, *test], marks=False)
    learnt = np.arange(len(texts))
    vectors = terms.vectors(terms.rarity(learnt))
    weights, shift = ridge(vectors.take(learnt), ratings, penalty=1.0)
    return vectors.times(weights)[len(texts) :] + shift


def told_against(own: NDArray[np.float64], rival: NDArray[np.float64]) -> dict[str, Any]:
    """How often the rival is right, and how much more often the reward model is, JSON-able.

    Args:
        own: float64 `(M,)`, the reward model's differences of rewards.
        rival: float64 `(M,)`, the rival's.

    Returns:
        `accuracy` and `gain`, each with `value`, `low` and `high`; the gain is paired.
    """
    return {"accuracy": accuracy(rival).to_dict(), "gain": accuracy_gain(own, rival).to_dict()}


def told_beside(
    own: NDArray[np.float64], rival: NDArray[np.float64], truth: NDArray[np.float64]
) -> dict[str, Any]:
    """The rival's rank correlation, and by how much the reward model's is higher, JSON-able.

    Args:
        own: float64 `(M,)`, the reward model's predictions.
        rival: float64 `(M,)`, the rival's.
        truth: float64 `(M,)`, the mean ratings.

    Returns:
        `spearman` and `gain`, each with `value`, `low` and `high`; the gain is paired.
    """
    return {
        "spearman": spearman(rival, truth).to_dict(),
        "gain": spearman_gain(own, rival, truth).to_dict(),
    }


def told_rival(metrics: Mapping[str, Any]) -> str:
    """A line that holds a reward model against TF-IDF on the same held-out examples.

    Args:
        metrics: From `train_reward_model` or `train_rating_model`.
    """
    rival = metrics["tfidf"]
    what = "accuracy" if "accuracy" in rival else "spearman"
    value, gain = rival[what]["value"], rival["gain"]
    if value is None or gain["value"] is None:
        return "TF-IDF of words and pairs of words: nothing to compare on what was held out"
    line = (
        f"TF-IDF of words and pairs of words, on the same: {value:.3f}; this reward model's figure "
        f"is {gain['value']:+.3f} from it (95 %: {gain['low']:+.3f} to {gain['high']:+.3f}, paired)"
    )
    if gain["value"] < 0:
        line += (
            "; it has learnt no more than words: more examples, another model to start from, or "
            "--head auto may help"
        )
    return line


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _vocabulary(rows: Sequence[Preference]) -> tuple[dict[str, int], NDArray[np.float64]]:
    """Places of the words, and how rare each is."""
    texts = [text for row in rows for text in (row.chosen, row.rejected)]
    occurs = Counter(word for text in texts for word in set(_words(text)))
    # A word of a single answer tells nothing about others.
    index = {word: place for place, word in enumerate(w for w, n in occurs.items() if n > 1)}
    return index, np.array([np.log((1 + len(texts)) / (1 + occurs[word])) + 1 for word in index])


def _matrix(
    rows: Sequence[Preference], index: dict[str, int], rarity: NDArray[np.float64]
) -> Sparse:
    places, columns, values = _differences(rows, index, rarity)
    ends = np.cumsum(np.bincount(places, minlength=len(rows)))
    return Sparse(np.concatenate([[0], ends]), columns, values, len(index))


def _differences(
    rows: Sequence[Preference], index: dict[str, int], rarity: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Vector of the chosen answer less that of the rejected one, sparse: rows, columns, values."""
    places: list[int] = []
    columns: list[int] = []
    values: list[NDArray[np.float64]] = [np.zeros(0)]
    for place, row in enumerate(rows):
        for sign, text in ((1, row.chosen), (-1, row.rejected)):
            counts = Counter(word for word in _words(text) if word in index)
            known = [index[word] for word in counts]
            vector = np.log1p(np.array([*counts.values()], dtype=np.float64)) * rarity[known]
            places += [place] * len(known)
            columns += known
            values.append(sign * vector / max(float(np.linalg.norm(vector)), 1e-9))
    return np.array(places, dtype=np.int64), np.array(columns, np.int64), np.concatenate(values)
