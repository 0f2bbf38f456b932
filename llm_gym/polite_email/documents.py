"""The pre-training text as a stream of documents."""

from __future__ import annotations

import random

from llm_gym.polite_email.prose import write_document
from llm_gym.polite_email.requests import Split, combinations

__all__ = ["documents"]


def documents(split: Split, count: int, *, seed: int = 0) -> list[str]:
    """Writes documents of the office: emails in mixed registers, notes, chats, stories, minutes.

    Args:
        split: `"train"` or `"test"`; test documents use combinations of topic and recipient
            that no training document has.
        count: How many documents.
        seed: Seed of the documents.

    Raises:
        ValueError: If `count` is negative or the split is unknown.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    rng = random.Random(f"documents/{split}/{seed}")  # noqa: S311 - text, not secrets
    pool = combinations(split)
    return [write_document(rng, pool) for _ in range(count)]
