"""Instruction/answer pairs: reading, splitting and encoding them.

Prompt and answer are encoded separately, so that the boundary between them is the one the
environment has at generation time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm_gym.supervised.loop import read_jsonl
from llm_gym.text.answer import Answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class InstructionPair:
    """One example of supervised fine-tuning.

    Attributes:
        prompt: The instruction, without any prompt template.
        completion: The email.
    """

    prompt: str
    completion: str


def read_pairs(path: str | Path) -> list[InstructionPair]:
    """Reads instruction/answer pairs.

    Args:
        path: A `.jsonl` file; every line needs "prompt" and "completion".

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line lacks a key; the message has its number.
    """
    rows = read_jsonl(path, ["prompt", "completion"])
    return [InstructionPair(row["prompt"], row["completion"]) for row in rows]


def split_pairs(
    pairs: Sequence[InstructionPair], share: float, seed: int = 0
) -> tuple[list[InstructionPair], list[InstructionPair]]:
    """Holds out prompts, not pairs: a prompt with several answers stays on one side.

    Args:
        pairs: Pairs with at least 2 different prompts.
        share: Share of the prompts to hold out; at least one is.
        seed: Seed of the choice.

    Returns:
        (pairs to train on, held-out pairs), in their order.

    Raises:
        ValueError: If there are fewer than 2 different prompts.
    """
    prompts = sorted({pair.prompt for pair in pairs})
    if len(prompts) < 2:
        raise ValueError(f"pairs must have at least 2 different prompts, got {len(prompts)}")
    count = max(1, round(share * len(prompts)))
    chosen = set(random.Random(seed).sample(prompts, count))  # noqa: S311 - no secret
    kept = [pair for pair in pairs if pair.prompt not in chosen]
    return kept, [pair for pair in pairs if pair.prompt in chosen]


def encode_pair(
    tokenizer: PreTrainedTokenizerBase, pair: InstructionPair, prompt_template: str
) -> Answer:
    """Encodes prompt and answer separately; an EOS token ends the answer.

    Args:
        tokenizer: Adds its own special tokens (a BOS, say) to the prompt only.
        pair: Prompt and answer.
        prompt_template: Filled with the prompt first.

    Raises:
        ValueError: If the tokenizer has no EOS token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no EOS token, so a model cannot learn to stop")
    prompt_ids = tokenizer(prompt_template.format(prompt=pair.prompt))["input_ids"]
    completion_ids = tokenizer(pair.completion, add_special_tokens=False)["input_ids"]
    return Answer(
        prompt=pair.prompt,
        completion=pair.completion,
        prompt_ids=tuple(prompt_ids),
        completion_ids=(*completion_ids, tokenizer.eos_token_id),
    )


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[InstructionPair],
    prompt_template: str,
    context: int | None,
) -> list[Answer]:
    """Encodes pairs and checks that the model can read them.

    Args:
        tokenizer: See `encode_pair`.
        pairs: Prompts and answers.
        prompt_template: Filled with each prompt first.
        context: Longest sequence the model can read; None if it has no limit.

    Raises:
        ValueError: If a pair is longer than that, or the tokenizer has no EOS token.
    """
    encoded = [encode_pair(tokenizer, pair, prompt_template) for pair in pairs]
    for index, answer in enumerate(encoded):
        if context is not None and len(answer.ids) > context:
            raise ValueError(
                f"pairs[{index}] has {len(answer.ids)} tokens, more than the model's context "
                f"of {context}; shorten it or leave it out"
            )
    return encoded
