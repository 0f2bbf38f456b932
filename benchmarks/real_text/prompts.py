"""Cuts prompts out of real text."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np


def cut_prompts(documents: Sequence[str], words: int) -> list[str]:
    """Prompts of `words` words, each once, in the order of the text.

    Of a single long document every passage of that length is one; of many documents the beginning
    of each, and a document too short to leave anything to continue gives none.

    Args:
        documents: Text that the model was not trained on.
        words: Words of a prompt, at least 1.

    Raises:
        ValueError: No document is long enough for a prompt, or `words` is less than 1.
    """
    if words < 1:
        raise ValueError(f"words={words} must be at least 1")
    prompts = []
    for document in documents:
        # With the space that follows each word: line breaks belong to the text.
        pieces = re.findall(r"\S+\s*", document)
        starts = range(0, len(pieces) - words, words) if len(documents) == 1 else (0,)
        prompts += [
            "".join(pieces[i : i + words]).rstrip() for i in starts if i + words < len(pieces)
        ]
    if not prompts:
        raise ValueError(
            f"no held-out document has more than {words} words; choose a smaller --prompt-words"
        )
    return list(dict.fromkeys(prompts))


def split_prompts(
    prompts: Sequence[str], for_measuring: int, seed: int
) -> tuple[list[str], list[str]]:
    """Prompts to train on and prompts to measure on, in random order and without overlap.

    Args:
        prompts: At least two.
        for_measuring: How many to measure on, at most half of them.
        seed: Seed of the order.

    Raises:
        ValueError: There are fewer than two prompts.
    """
    if len(prompts) < 2:
        raise ValueError(f"{len(prompts)} prompt cannot be split; give more text")
    order = np.random.default_rng(seed).permutation(len(prompts))
    count = min(for_measuring, len(prompts) // 2)
    shuffled = [prompts[index] for index in order]
    return shuffled[count:], shuffled[:count]
