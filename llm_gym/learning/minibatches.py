"""Minibatches of about equally many tokens, as many in every process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llm_gym.parallel import world


def token_batches(
    lengths: Sequence[int], batch_size: int | None, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Splits items, in random order, into minibatches of about equally many tokens.

    Args:
        lengths: Tokens of each of the M items, at least one item.
        batch_size: Tokens a minibatch should hold; `None` is all of them. The number of minibatches
            is the one that tokens would give; an item is never split.
        rng: Draws the order.

    Returns:
        Every item's number once, in minibatches that are not empty. In several processes
        `batch_size` is of all together, and each has as many minibatches; they are empty in a
        process that has no items, and only there.
    """
    order = rng.permutation(len(lengths))
    ordered = np.asarray(lengths)[order]
    total = int(ordered.sum())
    n_batches = _number_of_batches(total, len(lengths), batch_size)
    if not total:
        return [order] * n_batches
    # An item belongs to the minibatch in whose share of the tokens its middle lies.
    middles = ordered.cumsum() - ordered / 2
    place = np.minimum((middles * n_batches / total).astype(int), n_batches - 1)
    if world().size > 1:
        place = _without_gaps(place, n_batches)
    batches = [order[place == k] for k in range(n_batches)]
    return [batch for batch in batches if len(batch)]


def _number_of_batches(total: int, n_items: int, batch_size: int | None) -> int:
    """As many as the tokens of all processes give, and as each of them has items for."""
    everyone = world().each([total, n_items])
    of_all = sum(tokens for tokens, _ in everyone)
    n_batches = 1 if batch_size is None else max(1, round(of_all / batch_size))
    return min([n_batches, *(items for _, items in everyone if items)])


def _without_gaps(place: NDArray[np.int64], n_batches: int) -> NDArray[np.int64]:
    """The nearest places, rising by at most 1, that leave no minibatch without an item."""
    for item in range(len(place)):
        place[item] = min(place[item], place[item - 1] + 1 if item else 0)
    still_needed = n_batches - np.arange(len(place), 0, -1)
    return np.maximum(place, still_needed)
