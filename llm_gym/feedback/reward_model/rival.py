"""The simplest rival of a reward model: logistic regression on which words the two answers have.

A reward model that predicts people's choices no better than a bag of words has learnt no more than
words. So the two stand side by side wherever a reward model is measured.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm_gym.feedback.preferences import Preference

_WORD = re.compile(r"\w+|[^\w\s]")
_STEPS = 300  # of accelerated gradient descent; for some thousand comparisons it is at its end


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
    rows, columns, values = _differences(train, index, rarity)
    weights = momentum = np.zeros(len(index))
    ridge = penalty / len(train)
    for step in range(_STEPS):  # Nesterov 1983; a difference is at most 2 long, so steps of 1 do
        margins = np.bincount(rows, values * momentum[columns], len(train))
        pull = -0.5 * (1 - np.tanh(margins / 2)) / len(train)  # derivative of the loss
        gradient = np.bincount(columns, values * pull[rows], len(index)) + ridge * momentum
        before, weights = weights, momentum - gradient / (1 + ridge)
        momentum = weights + step / (step + 3) * (weights - before)
    rows, columns, values = _differences(test, index, rarity)
    return np.bincount(rows, values * weights[columns], len(test)).astype(np.float64)


def told_rival(metrics: Mapping[str, Any]) -> str:
    """A line that says so where a bag of words is better than the reward model, else nothing.

    Args:
        metrics: From `train_reward_model`.
    """
    rival, own = metrics["bag_of_words"], metrics["held_out"]["accuracy"]
    if not rival["value"] > own["value"]:
        return ""
    return (
        f"a bag of words (logistic regression on the words of the two answers) does better on the "
        f"same comparisons: {rival['value']:.3f} (95 %: {rival['low']:.3f} to "
        f"{rival['high']:.3f}); this reward model has learnt no more than words: more comparisons, "
        "epochs, or another model to start from may help"
    )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _vocabulary(rows: Sequence[Preference]) -> tuple[dict[str, int], NDArray[np.float64]]:
    """Places of the words, and how rare each is."""
    texts = [text for row in rows for text in (row.chosen, row.rejected)]
    occurs = Counter(word for text in texts for word in set(_words(text)))
    # A word of a single answer tells nothing about others.
    index = {word: place for place, word in enumerate(w for w, n in occurs.items() if n > 1)}
    return index, np.array([np.log((1 + len(texts)) / (1 + occurs[word])) + 1 for word in index])


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
