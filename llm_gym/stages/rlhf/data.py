"""The prompts and pairs of a run: generated, or a person's own, with some held out."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from llm_gym.files import atomic
from llm_gym.scorers.texts import SourcedText, messages_of
from llm_gym.stages.rlhf.settings import LEAST_HELD_OUT

if TYPE_CHECKING:
    from llm_gym.polite_email.requests import Split
    from llm_gym.stages.rlhf.directory import RLHFDirectory
    from llm_gym.stages.rlhf.settings import RLHFConfig
    from llm_gym.supervised.pairs import InstructionPair
    from llm_gym.text.prompts import PromptRow

_HELD_OUT_PAIRS = 300  # of the generated ones, at most


class Prompts(NamedTuple):
    """Prompts of a run; no text is in both lists.

    Attributes:
        train: To compare answers to, and to train on.
        held_out: To measure on.
    """

    train: list[PromptRow]
    held_out: list[PromptRow]


class Pairs(NamedTuple):
    """Pairs for fine-tuning.

    Attributes:
        train: None of them is on a held-out prompt.
        held_out: To measure on; None leaves the choice to the stage.
    """

    train: list[InstructionPair]
    held_out: list[InstructionPair] | None


def prompts_of(config: RLHFConfig) -> Prompts:
    """The prompts that the settings ask for: of a file, else those of the pairs, else generated.

    Raises:
        ValueError: Fewer than 16 different prompts, or a malformed file.
    """
    from llm_gym.polite_email import email_prompts
    from llm_gym.supervised.pairs import read_pairs
    from llm_gym.text.prompts import PromptRow, storable

    if config.prompts is not None:
        return _split(config, storable(config.read(config.prompts)), f"prompts={config.prompts!r}")
    if config.pairs is not None:
        rows = [
            PromptRow(SourcedText(pair.prompt, pair.messages) if pair.messages else pair.prompt, {})
            for pair in read_pairs(config.pairs, bad_rows=config.bad_rows)
        ]
        return _split(config, rows, f"pairs={config.pairs!r}")
    train = email_prompts("train", config.train_prompts, seed=config.seed)
    held_out = email_prompts("test", config.held_out_prompts, seed=config.seed)
    return Prompts(*([PromptRow(text, {}) for text in texts] for texts in (train, held_out)))


def pairs_of(config: RLHFConfig, held_out: Sequence[PromptRow]) -> Pairs:
    """The pairs that the settings ask for.

    Args:
        config: Names a file, or how many to generate.
        held_out: Prompts that no pair to train on may have.

    Raises:
        ValueError: A malformed file, or no pair is left.
    """
    from llm_gym.polite_email import instruction_pairs
    from llm_gym.supervised.pairs import read_pairs

    if config.pairs is None:
        held_out_pairs = min(_HELD_OUT_PAIRS, config.generated_pairs)
        sizes: tuple[tuple[Split, int], ...]
        sizes = (("train", config.generated_pairs), ("test", held_out_pairs))
        return Pairs(
            *(
                instruction_pairs(split, count, seed=config.seed, praise_share=config.praised)
                for split, count in sizes
            )
        )
    pairs = read_pairs(config.pairs, bad_rows=config.bad_rows)
    reserved = {row.text for row in held_out}
    train = [pair for pair in pairs if pair.prompt not in reserved]
    if not train:
        raise ValueError(f"pairs={config.pairs!r} has only held-out prompts; add some pairs")
    return Pairs(train, [pair for pair in pairs if pair.prompt in reserved] or None)


def write_prompts(prompts: Prompts, run: RLHFDirectory) -> None:
    """Writes both lists as files that every command takes with `--prompts`."""
    for split, rows in (("train", prompts.train), ("held-out", prompts.held_out)):
        lines = [
            json.dumps(
                {**row.columns, "prompt": messages_of(row.text) or row.text}, ensure_ascii=False
            )
            for row in rows
        ]
        atomic.write_text(run.prompts(split), "\n".join(lines) + "\n")


def _split(config: RLHFConfig, rows: Sequence[PromptRow], what: str) -> Prompts:
    distinct = list({row.text: row for row in rows}.values())
    if len(distinct) < 2 * LEAST_HELD_OUT:
        raise ValueError(
            f"{what} has {len(distinct)} different prompts; at least {2 * LEAST_HELD_OUT} are "
            f"needed, since {LEAST_HELD_OUT} of them are held out to measure on"
        )
    count = min(config.held_out_prompts, max(LEAST_HELD_OUT, len(distinct) // 5))
    drawn = random.Random(config.seed).sample(range(len(distinct)), count)  # noqa: S311
    chosen = set(drawn)
    train = [row for index, row in enumerate(distinct) if index not in chosen]
    return Prompts(train[: config.train_prompts], [distinct[index] for index in sorted(chosen)])
