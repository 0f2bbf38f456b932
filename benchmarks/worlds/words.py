"""A small vocabulary for one world, from what it says and what can be answered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_gym.testing.tiny import EOS, PAD, UNK

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PIECE = r"\d|[^\W\d_]+|\n|[^\w\s]|_"  # digits one by one; spaces are not read
_LETTER = r"\n|\S"
_LONG = 12  # characters of a line from which it may be one token
_COMMON = 0.8  # share of conversations that have to say it


def word_tokenizer(
    conversations: Sequence[Sequence[str]],
    answers: Sequence[str],
    *,
    most_words: int,
    spelt: bool = False,
) -> PreTrainedTokenizerFast:
    """Words, digits and signs of a world; its answers, and what it always says, are tokens whole.

    Spaces are not read, and seldom words are `<unk>`. What the agent writes is joined without
    spaces: an answer with a space in it is one token.

    Args:
        conversations: The world's texts, each a conversation's, the first text first.
        answers: Tokens for the agent.
        most_words: So many other words are tokens, the most frequent.
        spelt: Letters are tokens, one by one, instead of words.

    Returns:
        A tokenizer without a chat template.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    firsts = [texts[0] for texts in conversations]
    whole = [text for text in (_shared_start(firsts), _shared_end(firsts)) if len(text) >= _LONG]
    whole += _standing_lines(conversations)
    pattern = "|".join(
        [
            *map(re.escape, sorted(set(whole), key=len, reverse=True)),
            *(_as_word(answer) for answer in sorted(set(answers), key=len, reverse=True)),
            _LETTER if spelt else _PIECE,
        ]
    )
    heard = "\n".join("\n".join(texts) for texts in conversations)
    words = Counter(re.findall(pattern, heard))
    seldom = [word for word, _ in words.most_common() if word not in {*whole, *answers}]
    vocabulary = [PAD, EOS, UNK, *dict.fromkeys([*answers, *whole, *seldom[:most_words]])]
    core = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=UNK)
    )
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token=EOS, unk_token=UNK
    )


def _as_word(answer: str) -> str:
    """A pattern of an answer that is no part of a longer word."""
    before, after = (
        (r"(?<!\w)" if answer[0].isalnum() else ""),
        (r"(?!\w)" if answer[-1].isalnum() else ""),
    )
    return before + re.escape(answer) + after


def _common_start(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)  # all others lie between them
    return next((first[:i] for i, (a, b) in enumerate(zip(first, last)) if a != b), first)  # noqa: B905


def _shared_start(texts: Sequence[str]) -> str:
    """What all texts begin with, in whole words; nothing if they are all the same."""
    start = _common_start(texts)
    return "" if len(set(texts)) == 1 else re.sub(r"\w*$", "", start)


def _shared_end(texts: Sequence[str]) -> str:
    """What all texts end with, in whole words."""
    end = _common_start([text[::-1] for text in texts])[::-1]
    return "" if len(set(texts)) == 1 else re.sub(r"^\w*", "", end)


def _standing_lines(conversations: Sequence[Sequence[str]]) -> list[str]:
    """Long lines that most conversations have."""
    counts = Counter(
        line
        for texts in conversations
        for line in {line for text in texts for line in text.splitlines()}
    )
    least = _COMMON * len(conversations)
    return [line for line, count in counts.items() if count >= least and len(line) >= _LONG]
