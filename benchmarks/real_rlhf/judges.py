"""Reward models of the two halves of the ratings: one is optimised, the others look on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.run_log import RunLog

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.real_preferences.data import Rated
    from llm_gym.scorers import Scorer

JUDGES = {"proxy": (0, "auto"), "gold": (1, "auto"), "words": (1, "words")}
"""Half of the ratings and head of each.

`proxy` is trained on. `gold` knows other texts and other people, but reads them with the same
encoder, whose blind spots the two have in common; `words` is of the gold's half without it.
"""


def fit_judges(
    rated: Rated, encoder: str, seed: int, log: RunLog, directory: Path
) -> dict[str, Scorer]:
    """Fits what is not fitted yet, and loads all.

    Args:
        rated: Texts and ratings.
        encoder: Directory of the encoder that is read as it is.
        seed: Which text is in which half.
        log: Gets how each agrees with people on the half that it has not seen, and `mean` and
            `deviation` of its rewards there.
        directory: Gets the reward models.

    Returns:
        By name: rewards with mean 0 and deviation 1 on people's requests of the unseen half.
    """
    from llm_gym.feedback.reward_model import RewardModelScorer
    from llm_gym.scorers import Scale

    halves = halves_of(rated.texts, seed)
    judges: dict[str, Scorer] = {}
    for name, (half, head) in JUDGES.items():
        if (name,) not in log.done:
            found = _fit(rated, halves, half, encoder, head, seed, directory / name)
            log.add((name,), found)
        found = log.done[name,]
        scorer = RewardModelScorer(directory / name)
        factor = 1 / found["deviation"]
        judges[name] = Scale(scorer, factor, -found["mean"] * factor, name=name)
    return judges


def halves_of(texts: list[str], seed: int) -> NDArray[np.int64]:
    """The half of each text, 0 or 1, int64 `(N,)`; equal texts are in the same."""
    from benchmarks.real_preferences.data import folds

    return folds(texts, 2, seed)


def _fit(
    rated: Rated,
    halves: NDArray[np.int64],
    half: int,
    encoder: str,
    head: str,
    seed: int,
    output: Path,
) -> dict[str, Any]:
    from llm_gym.feedback.reward_model import (
        RatingModelConfig,
        RewardModelScorer,
        spearman,
        train_rating_model,
    )

    own, other = np.flatnonzero(halves == half), np.flatnonzero(halves != half)
    config = RatingModelConfig(model=encoder, head=head, too_long="truncate", seed=seed)
    unseen = [rated.texts[place] for place in other]
    train_rating_model(
        [rated.texts[place] for place in own],
        rated.ratings[own],
        output,
        config,
        held_out=(unseen, rated.ratings[other]),
        quiet=True,
    )
    rewards = RewardModelScorer(output).rewards([""] * len(unseen), unseen)
    agreement = spearman(rewards, rated.means[other])
    return {
        "texts": len(own),
        "unseen": len(other),
        "spearman": {"value": agreement.value, "low": agreement.low, "high": agreement.high},
        "mean": float(rewards.mean()),
        "deviation": float(rewards.std()),
    }
