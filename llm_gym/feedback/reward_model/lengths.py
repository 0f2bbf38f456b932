"""Examples that a reward model can read whole, and what becomes of longer ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from llm_gym.feedback.preferences.files import split_preferences
from llm_gym.feedback.preferences.records import asked
from llm_gym.files.rows import short_enough

if TYPE_CHECKING:
    from llm_gym.feedback.preferences import Preference
    from llm_gym.feedback.reward_model.fitting import FittingConfig
    from llm_gym.feedback.reward_model.scorer import RewardModelScorer

Example = TypeVar("Example")


def short_examples(
    scorer: RewardModelScorer,
    examples: Sequence[tuple[str, Example]],
    texts_of: Callable[[Example], Sequence[tuple[str, str]]],
    config: FittingConfig,
    name: str,
) -> list[Example]:
    """Examples that the model can read whole, or those that it may read the end of.

    Args:
        scorer: Its `max_length` is the limit.
        examples: N places, for messages, and examples.
        texts_of: The prompts and answers of an example, as many of every one.
        config: `too_long` and `max_length` are used.
        name: What the examples are, for messages.

    Returns:
        At most N examples as they were: the scorer's `encode` is what cuts.

    Raises:
        TooLongError: One is too long, by its place; or all are.
    """
    limit = scorer.max_length
    if limit is None or not examples:
        return [example for _, example in examples]
    pairs = [pair for _, example in examples for pair in texts_of(example)]
    lengths = scorer.lengths(*zip(*pairs, strict=True))
    each = len(pairs) // len(examples)
    longest = [max(lengths[start : start + each]) for start in range(0, len(pairs), each)]
    return short_enough(
        [(*example, length) for example, length in zip(examples, longest, strict=True)],
        limit,
        f"max_length={limit}" if config.max_length else f"the {limit} that the model can read",
        name,
        too_long=config.too_long,
    )


def short_comparisons(
    scorer: RewardModelScorer,
    preferences: Sequence[Preference],
    config: FittingConfig,
    held_out: Sequence[Preference] | None = None,
) -> tuple[list[Preference], list[Preference]]:
    """Comparisons to train on and to measure on, as long as the settings allow.

    Args:
        scorer: Of the model that is to read them.
        preferences: Rows to train on, and to hold out from if none are given.
        config: `too_long`, `max_length`, `held_out_share` and `seed` are used.
        held_out: Rows to measure on; None holds out a share of the prompts.

    Raises:
        TooLongError: A row is too long, by its place; or all are.
    """

    def texts_of(row: Preference) -> list[tuple[str, str]]:
        return [(asked(row), row.chosen), (asked(row), row.rejected)]

    short = []
    for name, rows in (("preferences", preferences), ("held_out", held_out or ())):
        places = [row.place or f"{name}[{index}]" for index, row in enumerate(rows)]
        named = list(zip(places, rows, strict=True))
        what = "comparisons" if name == "preferences" else "held-out comparisons"
        short.append(short_examples(scorer, named, texts_of, config, what))
    if held_out is None:
        return split_preferences(short[0], config.held_out_share, config.seed)
    return short[0], short[1]


def number_cut(scorer: RewardModelScorer, rows: Sequence[Preference]) -> int:
    """How many comparisons have an answer of which the model reads only the end."""
    if scorer.max_length is None:
        return 0
    prompts = [asked(row) for row in rows]
    sides = ([row.chosen for row in rows], [row.rejected for row in rows])
    lengths = zip(*(scorer.lengths(prompts, side) for side in sides), strict=True)
    return sum(max(pair) > scorer.max_length for pair in lengths)
