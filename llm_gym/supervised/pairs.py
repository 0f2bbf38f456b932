"""Instruction/answer pairs: reading, splitting and encoding them.

Prompt and answer are encoded apart, so that the boundary between them is the one the
environment has at generation time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.chat import PromptFormat, as_prompt_format
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
        messages: The conversation that the completion answers, if it is more than one instruction;
            `prompt` is then its text.
    """

    prompt: str
    completion: str
    messages: tuple[Mapping[str, Any], ...] | None = None


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
    tokenizer: PreTrainedTokenizerBase,
    pair: InstructionPair,
    prompt_template: str | PromptFormat | None = None,
) -> Answer:
    """Encodes prompt and answer apart; the token that ends the model's turn ends the answer.

    Args:
        tokenizer: Adds its own special tokens (a BOS, say) to the prompt only.
        pair: Prompt and answer.
        prompt_template: Format string around the prompt; None takes the tokenizer's chat template,
            or the bare prompt if there is none.

    Raises:
        ValueError: If no token ends an answer.
    """
    prompt_format = as_prompt_format(tokenizer, prompt_template)
    prompt_ids, completion_ids = prompt_format.encode_answer(
        pair.prompt if pair.messages is None else pair.messages, pair.completion
    )
    return Answer(
        prompt=pair.prompt,
        completion=pair.completion,
        prompt_ids=tuple(prompt_ids),
        completion_ids=tuple(completion_ids),
    )


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[InstructionPair],
    prompt_template: str | PromptFormat | None,
    context: int | None,
) -> list[Answer]:
    """Encodes pairs and checks that the model can read them.

    Args:
        tokenizer: See `encode_pair`.
        pairs: Prompts and answers.
        prompt_template: See `encode_pair`.
        context: Longest sequence the model can read; None if it has no limit.

    Raises:
        ValueError: If a pair is longer than that, or no token ends an answer.
    """
    prompt_format = as_prompt_format(tokenizer, prompt_template)
    encoded = [encode_pair(tokenizer, pair, prompt_format) for pair in pairs]
    for index, answer in enumerate(encoded):
        if context is not None and len(answer.ids) > context:
            raise ValueError(
                f"pairs[{index}] has {len(answer.ids)} tokens, more than the model's context "
                f"of {context}; shorten it or leave it out"
            )
    return encoded
