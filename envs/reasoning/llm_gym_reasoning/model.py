"""A tiny model for one of the small tasks, made from nothing in seconds.

It reads and writes characters, and its supervised training on the right answers stops early: like
most language models that meet reinforcement learning, it knows what an answer looks like, and
samples the right one now and then.
"""

from __future__ import annotations

import re
import string
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym_reasoning.questions import draw_questions
from llm_gym_reasoning.small_tasks import small_task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from llm_gym.supervised.pairs import InstructionPair

__all__ = ["CONTEXT", "character_tokenizer", "make_model"]


CONTEXT = 64
"""Longest sequence that the model can read, in tokens."""

_WIDTH, _LAYERS, _HEADS = 64, 2, 4
_BATCH_SIZE, _LEARNING_RATE = 64, 3e-3


def make_model(
    directory: str | Path,
    task: str = "spell_backward",
    seed: int = 0,
    *,
    epochs: int | None = None,
    quiet: bool = True,
) -> dict[str, Any]:
    """Makes a model that answers the questions of a small task, now and then rightly.

    Only the registered environment's training questions are used, whatever the seed. The same
    arguments give the same weights, on the same machine with the same number of threads.

    Args:
        directory: Where to; a Hugging Face directory, replaced if it is there.
        task: Key of `SMALL_TASKS`.
        seed: Seed of the initial weights and of the order.
        epochs: Passes over the questions; None means the task's own number. More make a better
            model.
        quiet: No progress bar.

    Returns:
        The metrics of `llm_gym.supervised.sft.fine_tune`, which are also in `metrics.json`.

    Raises:
        ImportError: Reasoning-gym is not installed.
        ValueError: The task is not a small one.
    """
    from llm_gym.supervised.loop import new_gpt2, save_model
    from llm_gym.supervised.sft import SFTConfig, fine_tune

    small = small_task(task)
    rows = draw_questions(task, small.settings, size=small.size, test_size=small.test_size).rows
    tokenizer = character_tokenizer([row["prompt"] for row in rows["train"]], context=CONTEXT)
    config = SFTConfig(
        epochs=small.epochs if epochs is None else epochs,
        batch_size=_BATCH_SIZE,
        learning_rate=_LEARNING_RATE,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as scratch:
        model = new_gpt2(
            tokenizer, context=CONTEXT, width=_WIDTH, layers=_LAYERS, heads=_HEADS, seed=seed
        )
        save_model(model, tokenizer, Path(scratch), "float32")
        return fine_tune(
            scratch,
            _pairs(rows["train"]),
            directory,
            config,
            held_out=_pairs(rows["test"]),
            quiet=quiet,
        )


def _pairs(rows: Sequence[dict[str, Any]]) -> list[InstructionPair]:
    """Questions with their right answers."""
    from llm_gym.supervised.pairs import InstructionPair

    return [InstructionPair(row["prompt"], str(row["entry"]["answer"])) for row in rows]


def character_tokenizer(questions: Sequence[str], *, context: int) -> PreTrainedTokenizerFast:
    """A tokenizer for characters, in which what most questions share are single tokens.

    Args:
        questions: Questions of the task.
        context: Longest input of the model it is for (`model_max_length`).

    Returns:
        A tokenizer with the special tokens and the chat template of the library's other models.
        Printable ASCII survives encoding and decoding; any other character becomes `<|unk|>`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    from llm_gym.supervised.documents import ASSISTANT, END_OF_TEXT, PAD, USER, chat_tokenizer

    start = _common_start(questions)
    rests = [text[len(start) :] for text in questions]
    counts = Counter(word for text in rests for word in set(re.findall(r" ?\b\w\w+\b", text)))
    words = sorted(word for word, count in counts.items() if 2 * count > len(questions))
    starts = [start] if len(start) > 1 else []
    characters = [*string.ascii_letters, *string.digits, *string.punctuation, " ", "\n"]
    tokens = [END_OF_TEXT, PAD, USER, ASSISTANT, "<|unk|>", *starts, *words, *characters]
    whole = [*map(re.escape, starts), *(rf"{re.escape(word)}\b" for word in words)]
    pattern = "|".join([*whole, r"[\s\S]"])
    core = Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<|unk|>")  # noqa: S106
    )
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    core.decoder = decoders.Fuse()
    return chat_tokenizer(core, context=context, unk_token="<|unk|>")  # noqa: S106


def _common_start(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    first, last = min(texts), max(texts)  # all others lie between these two
    length = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )
    return first[:length]
