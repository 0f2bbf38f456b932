"""Instruction/answer pairs: reading, splitting, encoding and padding them.

Prompt and answer are encoded separately, so that the boundary between them is the one the
environment has at generation time. What is padding is known from lengths, never from ids, so a
tokenizer whose pad token is its EOS token works too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llm_gym.supervised.loop import IGNORED, read_jsonl

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "AnswerBatch",
    "EncodedPair",
    "InstructionPair",
    "collate",
    "encode_pair",
    "encode_pairs",
    "read_pairs",
    "split_pairs",
]


@dataclass(frozen=True)
class InstructionPair:
    """One example of supervised fine-tuning.

    Attributes:
        prompt: The instruction, without any prompt template.
        completion: The email.
    """

    prompt: str
    completion: str


class EncodedPair(NamedTuple):
    """Token ids of prompt, answer and EOS, and the same with the prompt masked out.

    Attributes:
        input_ids: All tokens.
        labels: The same length; `IGNORED` on the prompt.
    """

    input_ids: list[int]
    labels: list[int]


class AnswerBatch(NamedTuple):
    """A right-padded batch.

    Attributes:
        input_ids: int64 (B, T).
        attention_mask: int64 (B, T), 1 on tokens, 0 on padding.
        labels: int64 (B, T), `IGNORED` on prompts and padding.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


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
) -> EncodedPair:
    """Encodes prompt and answer separately; the prompt is no target, the EOS is one.

    Args:
        tokenizer: Adds its own special tokens (a BOS, say) to the prompt only.
        pair: Prompt and answer.
        prompt_template: Filled with the prompt first.

    Raises:
        ValueError: If the tokenizer has no EOS token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no EOS token, so a model cannot learn to stop")
    prompt = tokenizer(prompt_template.format(prompt=pair.prompt))["input_ids"]
    answer = tokenizer(pair.completion, add_special_tokens=False)["input_ids"]
    answer = [*answer, tokenizer.eos_token_id]
    return EncodedPair([*prompt, *answer], [IGNORED] * len(prompt) + answer)


def collate(pairs: Sequence[EncodedPair], pad_token_id: int) -> AnswerBatch:
    """Pads on the right to the longest pair.

    Args:
        pairs: B pairs.
        pad_token_id: Fills `input_ids`; which id it is does not matter.
    """
    import torch

    longest = max(len(pair.input_ids) for pair in pairs)
    input_ids = torch.full((len(pairs), longest), pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORED)
    for row, pair in enumerate(pairs):
        length = len(pair.input_ids)
        input_ids[row, :length] = torch.tensor(pair.input_ids)
        attention_mask[row, :length] = 1
        labels[row, :length] = torch.tensor(pair.labels)
    return AnswerBatch(input_ids, attention_mask, labels)


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[InstructionPair],
    prompt_template: str,
    context: int | None,
) -> list[EncodedPair]:
    """Encodes pairs and check that the model can read them.

    Args:
        tokenizer: See `encode_pair`.
        pairs: Prompts and answers.
        prompt_template: Filled with each prompt first.
        context: Longest sequence the model can read; None if it has no limit.

    Raises:
        ValueError: If a pair is longer than that, or the tokenizer has no EOS token.
    """
    encoded = [encode_pair(tokenizer, pair, prompt_template) for pair in pairs]
    for index, pair in enumerate(encoded):
        if context is not None and len(pair.input_ids) > context:
            raise ValueError(
                f"pairs[{index}] has {len(pair.input_ids)} tokens, more than the model's context "
                f"of {context}; shorten it or leave it out"
            )
    return encoded
