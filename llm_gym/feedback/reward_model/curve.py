"""Accuracy against the number of comparisons, by training again on nested subsets."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model.comparisons import (
    RewardModelConfig,
    fit_short_comparisons,
    short_comparisons,
)
from llm_gym.feedback.reward_model.fitting import MINIMUM, scorer_to_train


def learning_curve(
    preferences: Sequence[Preference],
    config: RewardModelConfig | None = None,
    *,
    sizes: Sequence[int] | None = None,
    held_out: Sequence[Preference] | None = None,
    seeds: Sequence[int] = (0,),
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Trains on more and more comparisons, and measures each time on the same held-out ones.

    The subsets are nested: a larger one contains the smaller ones of the same seed.

    Args:
        preferences: Rows to train on, and to hold out from if `held_out` is None.
        config: Settings of each training.
        sizes: Numbers of comparisons to train on; None doubles from 50 (or from the least that can
            be trained on) to all of them.
        held_out: Rows to measure on; None holds out a share of the prompts.
        seeds: One training each, with subsets and order of its own.
        quiet: No progress bar.

    Returns:
        For each size and seed `comparisons`, `seed`, `accuracy` (with `low` and `high`), `log_loss`
        and `temperature`.

    Raises:
        ValueError: Sizes out of range, or what `train_reward_model` raises.
    """
    config = config or RewardModelConfig()
    scorer, _ = scorer_to_train(config)
    rows, held_out = short_comparisons(scorer, list(preferences), config, held_out)
    sizes = doublings(len(rows)) if sizes is None else list(sizes)
    if not sizes or min(sizes) < MINIMUM or max(sizes) > len(rows):
        raise ValueError(
            f"sizes must be from {MINIMUM} to {len(rows)}, the comparisons there are to train on; "
            f"got {sizes}"
        )
    points = []
    for seed in seeds:
        shuffled = random.Random(seed).sample(rows, len(rows))  # noqa: S311 - no secret
        for size in sizes:
            seeded = replace(config, seed=seed)
            scorer, _ = scorer_to_train(seeded)
            _, metrics = fit_short_comparisons(
                scorer, shuffled[:size], held_out, seeded, quiet=quiet
            )
            measured = metrics["held_out"]
            points.append(
                {
                    "comparisons": size,
                    "seed": seed,
                    "accuracy": measured["accuracy"],
                    "log_loss": measured["log_loss"],
                    "temperature": measured["temperature"],
                }
            )
    return points


def doublings(largest: int, first: int = 50) -> list[int]:
    """`first`, twice that and so on up to `largest`, which is always the last."""
    sizes = []
    size = max(MINIMUM, min(first, largest))
    while size < largest:
        sizes.append(size)
        size *= 2
    return [*sizes, largest]
