"""Plain text to train on: reading it, holding a part of it out, and a tokenizer for it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_gym.files.encoding import check_text
from llm_gym.files.rows import Note, parse_rows, read_rows

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT, PAD, USER, ASSISTANT = "<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|endoftext|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def read_documents(source: Any, *, bad_rows: str = "error") -> list[str]:
    """Reads text to train on.

    Args:
        source: What `llm_gym.files.rows.read_rows` reads. A text file is one document, a row is one
            with a column "text", or a text.
        bad_rows: "error", or "skip" to leave out rows that cannot be read, with a warning.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: Not something texts can be read from.
        ValueError: There is no text, or a row has none; the message has its place.
    """
    rows = read_rows(source, "text", whole_text=True)
    return [text for _, text in parse_rows(rows, _document, source, "text", bad_rows=bad_rows)]


def _document(row: Any, note: Note) -> str | None:
    if isinstance(row, Mapping):
        if "text" not in row:
            raise ValueError(f'needs a column "text", has {sorted(map(str, row))}')
        row = row["text"]
    if isinstance(row, str) and not row.strip():
        note("blank texts are left out")
        return None
    check_text("text", row)
    return row


def split_held_out(
    documents: Sequence[str], share: float, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Holds out a share of the text, before anything is learnt from it.

    Args:
        documents: One document is cut near its end, at a line break; of several, a seeded choice
            of whole documents is held out.
        share: Share to hold out, between 0 and 1.
        seed: Seed of the choice.

    Returns:
        (text to train on, held-out text); both keep the order of the documents.

    Raises:
        ValueError: If there is no document.
    """
    if not documents:
        raise ValueError("there is no document to train on")
    if len(documents) == 1:
        whole = documents[0]
        boundary = round(len(whole) * (1 - share))
        cut = whole.rfind("\n", 0, boundary) + 1 or boundary
        return [whole[:cut]], [whole[cut:]]
    count = max(1, round(share * len(documents)))
    chosen = set(random.Random(seed).sample(range(len(documents)), count))  # noqa: S311
    kept = [text for index, text in enumerate(documents) if index not in chosen]
    return kept, [documents[index] for index in sorted(chosen)]


def train_tokenizer(
    documents: Sequence[str], *, vocab_size: int, context: int
) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE (as GPT-2's) with the special tokens of a chat.

    Args:
        documents: Text to learn the merges from.
        vocab_size: Tokens in all, the 4 special ones and the 256 bytes included.
        context: Longest input of the model it is for (`model_max_length`).

    Returns:
        A tokenizer with `<|endoftext|>` as EOS, `<|pad|>` as pad, the chat tokens `<|user|>`
        and `<|assistant|>`, and a chat template. Any text survives encoding and decoding.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special = [END_OF_TEXT, PAD, USER, ASSISTANT]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(documents, trainer)
    return chat_tokenizer(bpe, context=context)


def chat_tokenizer(core: Tokenizer, *, context: int, **special: str) -> PreTrainedTokenizerFast:
    """A tokenizer with the chat template of the library's models.

    Args:
        core: Knows `<|endoftext|>`, `<|pad|>`, `<|user|>` and `<|assistant|>`.
        context: Longest input of the model it is for (`model_max_length`).
        **special: Further special tokens, such as `unk_token`.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT],
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        **special,
    )
