"""Instruction/answer pairs: reading, splitting and encoding them.

Prompt and answer are encoded apart, so that the boundary between them is the one the
environment has at generation time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llm_gym.files.encoding import check_text
from llm_gym.files.formats import pair_fields
from llm_gym.files.rows import Note, Row, parse_rows, read_rows, short_enough
from llm_gym.language_models.chat import PromptFormat, as_prompt_format, is_question, plain_text
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
        place: Where it was read, for messages.
    """

    prompt: str
    completion: str
    messages: tuple[Mapping[str, Any], ...] | None = None
    place: str = field(default="", compare=False, repr=False)


def read_pairs(source: Any, *, bad_rows: str = "error") -> list[InstructionPair]:
    """Reads instruction/answer pairs.

    Args:
        source: What `llm_gym.files.rows.read_rows` reads; `llm_gym.files.formats.pair_fields` says
            what a row means. The items of a sequence may be `InstructionPair`s.
        bad_rows: "error", or "skip" to leave out rows that cannot be read, with a warning.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: Not something pairs can be read from.
        ValueError: A row has no prompt or no answer; the message has its place.
    """
    found = parse_rows(read_rows(source, "pairs"), _pair, source, "pairs", bad_rows=bad_rows)
    return [replace(pair, place=place) for place, pair in found]


def _pair(row: Any, note: Note) -> InstructionPair | None:
    if isinstance(row, InstructionPair):
        return row
    fields = pair_fields(row, note)
    if fields is None:
        return None
    prompt = plain_text(fields.prompt)
    check_text("prompt", prompt)
    check_text("completion", fields.completion)
    if isinstance(fields.prompt, str) or is_question(fields.prompt):
        return InstructionPair(prompt, fields.completion)
    return InstructionPair(prompt, fields.completion, tuple(fields.prompt))


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
    *,
    too_long: str = "error",
    bad_rows: str = "error",
) -> list[Answer]:
    """Encodes pairs and checks that the model can read them.

    Args:
        tokenizer: See `encode_pair`.
        pairs: Prompts and answers.
        prompt_template: See `encode_pair`.
        context: Longest sequence the model can read; None if it has no limit.
        too_long: What becomes of longer ones: "error", "drop", or "truncate" (see `cut_answer`).
        bad_rows: What becomes of those that the chat template refuses: "error" or "skip".

    Raises:
        ValueError: If a pair is longer than that, or the chat template refuses it, by its place; or
            no token ends an answer.
    """
    prompt_format = as_prompt_format(tokenizer, prompt_template)
    rows = [Row(pair.place or f"pairs[{index}]", pair) for index, pair in enumerate(pairs)]
    encoded = parse_rows(
        rows,
        lambda pair, note: encode_pair(tokenizer, pair, prompt_format),
        None,
        "pairs",
        bad_rows=bad_rows,
    )
    return short_enough(
        [(place, row, len(row.ids)) for place, row in encoded],
        context,
        context_of(context),
        "pairs",
        too_long=too_long,
        truncate=cut_answer,
    )


def context_of(context: int | None) -> str:
    """How messages speak of a limit that is the model's."""
    return f"the model's context of {context}"


def cut_answer(answer: Answer, limit: int, longest: int | None = None) -> Answer:
    """An answer that fits: the prompt loses its beginning; a completion longer still, its end.

    Args:
        answer: Prompt and completion.
        limit: Tokens that may stay, at least 2; at least one of them is the prompt's.
        longest: Tokens of the longest completion that the prompt is cut for; None is this one.
    """
    room = limit - (len(answer.completion_ids) if longest is None else longest)
    prompt_ids = answer.prompt_ids[-max(1, room) :]
    completion_ids = answer.completion_ids[: limit - len(prompt_ids)]
    return replace(answer, prompt_ids=prompt_ids, completion_ids=completion_ids)
