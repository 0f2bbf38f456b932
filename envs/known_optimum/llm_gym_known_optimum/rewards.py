"""Families of rewards on the answers of a tree; every one lies between 0 and 1.

They differ in what makes learning hard: credit for single words (additive), none for single words
(interaction), a long way to one answer (unique), a bonus for length whatever is said (length), few
answers that pay at all (sparse).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from llm_gym_known_optimum.tree import AnswerTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Draw = Callable[[AnswerTree, np.random.Generator], Floats]

__all__ = ["FAMILIES", "LENGTH_SHARE", "SPARSE_SHARE", "draw_rewards"]

LENGTH_SHARE = 0.5
"""How much of the reward of family "length" is for length alone."""

SPARSE_SHARE = 0.05
"""Share of answers that pay in family "sparse"; at least one does."""


def draw_rewards(family: str, tree: AnswerTree, n_prompts: int, seed: int) -> Floats:
    """Rewards of all answers to all prompts, each prompt with draws of its own.

    Args:
        family: One of `FAMILIES`:

            - `"unique"`: one best answer; the share of its leading words that are right.
            - `"additive"`: a sum over places of what a word is worth there.
            - `"interaction"`: a sum over neighbouring words of what the pair is worth; averaged
              over its neighbour, every word is worth the same.
            - `"length"`: half the mean worth of the words, half the answer's length. Where
              answers can end early, it pays to go on whatever is said.
            - `"sparse"`: 1 for one answer in twenty, else 0.
        tree: The answers.
        n_prompts: P.
        seed: Seed of the draws.

    Returns:
        float64 `(P, Y)` in [0, 1].

    Raises:
        ValueError: The family is unknown, or "interaction" has no neighbours.
    """
    if family not in FAMILIES:
        raise ValueError(f"family={family!r} is not one of {sorted(FAMILIES)}")
    if family == "interaction" and tree.length < 2:
        raise ValueError("family='interaction' needs neighbouring words: length must be at least 2")
    streams = np.random.SeedSequence([seed, sorted(FAMILIES).index(family)]).spawn(n_prompts)
    return np.stack([FAMILIES[family](tree, np.random.default_rng(stream)) for stream in streams])


def _unique(tree: AnswerTree, rng: np.random.Generator) -> Floats:
    best = rng.integers(tree.n_words, size=tree.length)
    return _by_length(
        tree,
        lambda words: (
            np.cumprod(words == best[: words.shape[1]], 1).sum(1).astype(float) / tree.length
        ),
    )


def _additive(tree: AnswerTree, rng: np.random.Generator) -> Floats:
    worth = rng.random((tree.length, tree.n_words))
    return _scaled(
        _by_length(tree, lambda words: worth[np.arange(words.shape[1]), words].sum(1)),
    )


def _interaction(tree: AnswerTree, rng: np.random.Generator) -> Floats:
    worth = rng.normal(size=(tree.length - 1, tree.n_words, tree.n_words))
    worth -= worth.mean(1, keepdims=True)
    worth -= worth.mean(2, keepdims=True)
    return _scaled(
        _by_length(
            tree,
            lambda words: worth[
                np.arange(max(words.shape[1] - 1, 0)), words[:, :-1], words[:, 1:]
            ].sum(1),
        )
    )


def _length(tree: AnswerTree, rng: np.random.Generator) -> Floats:
    worth = _scaled(rng.random(tree.n_words))

    def score(words: NDArray[np.int64]) -> Floats:
        said = worth[words].sum(1) / max(words.shape[1], 1)
        return (1 - LENGTH_SHARE) * said + LENGTH_SHARE * words.shape[1] / tree.length

    return _by_length(tree, score)


def _sparse(tree: AnswerTree, rng: np.random.Generator) -> Floats:
    paying = max(1, round(SPARSE_SHARE * tree.n_answers))
    rewards = np.zeros(tree.n_answers)
    rewards[rng.permutation(tree.n_answers)[:paying]] = 1.0
    return rewards


def _by_length(tree: AnswerTree, score: Callable[[NDArray[np.int64]], Floats]) -> Floats:
    """`score` of all words of one length, `(V^d, d)` to `(V^d,)`, for the lengths there are."""
    return np.concatenate([score(tree.words(int(d))) for d in np.unique(tree.answer_lengths)])


def _scaled(values: Floats) -> Floats:
    return (values - values.min()) / (values.max() - values.min())


FAMILIES: dict[str, Draw] = {
    "unique": _unique,
    "additive": _additive,
    "interaction": _interaction,
    "length": _length,
    "sparse": _sparse,
}
"""Reward families by name."""
