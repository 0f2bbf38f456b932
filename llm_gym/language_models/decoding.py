"""Text of token ids that stand behind others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_TAIL = 32  # tokens of context: enough for any character and any rule about a first token
_REPLACEMENT = "\ufffd"
_LONGEST_CHARACTER = 4  # bytes in UTF-8, and so tokens


def decode_after(
    tokenizer: Any,
    before: Sequence[int] | np.ndarray,
    ids: Iterable[int],
    *,
    skip_special_tokens: bool,
    special: frozenset[int] | None = None,
) -> str:
    """The text that tokens add to what stands before them.

    A tokenizer of sentencepiece's kind takes a space away from the first token of whatever it
    decodes. Decoded with its context, an answer keeps it, so that `prompt + completion` is what the
    model wrote.

    Args:
        tokenizer: A Hugging Face tokenizer.
        before: Ids before them, of the prompt.
        ids: The ids.
        skip_special_tokens: Leave out EOS, pad and the like.
        special: `special_ids(tokenizer)`, for who has it.

    Returns:
        The text, spaces as they are.
    """
    tokens = [int(token) for token in ids]
    alone = _decode(tokenizer, tokens, skip_special_tokens)
    if not tokens or not _needs_context(tokenizer):
        return alone
    context = [int(token) for token in before[-_TAIL:]]
    if skip_special_tokens:
        special = special_ids(tokenizer) if special is None else special
        tokens = [token for token in tokens if token not in special]
    start = _decode(tokenizer, context, False)
    whole = _decode(tokenizer, context + tokens, False)
    return whole[len(start) :] if whole.startswith(start) else alone


class TokenTexts:
    """What each token adds to the text it stands in, special tokens by their names.

    Args:
        tokenizer: A Hugging Face tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._of_id: dict[int, str] = {}

    def of_token(self, before: Sequence[int], token: int) -> str:
        """Text of a token; a part of a character is the replacement character.

        Args:
            before: At least one id that stands before it, for tokenizers whose first token is read
                otherwise than the others.
            token: Its id.
        """
        if token not in self._of_id:
            self._of_id[token] = self._added(before, [token])
        return self._of_id[token]

    def of_answer(self, before: Sequence[int], ids: Sequence[int]) -> list[str]:
        """Texts of an answer's tokens; of a character in several tokens the last has it.

        Args:
            before: Ids before them, of the prompt.
            ids: The answer.
        """
        texts: list[str] = []
        start = 0  # first token of a character that is not whole yet
        for place in range(len(ids)):
            context = [*before, *ids[:start]][-_TAIL:]
            part = list(ids[start : place + 1])
            text = self.of_token(context, part[0]) if len(part) == 1 else self._added(context, part)
            unfinished = text.endswith(_REPLACEMENT) and len(part) < _LONGEST_CHARACTER
            texts.append("" if unfinished and place + 1 < len(ids) else text)
            if texts[-1]:
                start = place + 1
        return texts

    def _added(self, before: Sequence[int], ids: Sequence[int]) -> str:
        return decode_after(self._tokenizer, before, ids, skip_special_tokens=False)


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids that decoding with `skip_special_tokens` leaves out."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    marked = {number for number, token in added.items() if getattr(token, "special", False)}
    return frozenset(marked | set(getattr(tokenizer, "all_special_ids", ())))


def _needs_context(tokenizer: Any) -> bool:
    """Bytes decode alike anywhere; where there is no decoder, the spaces between are nobody's."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        return hasattr(tokenizer, "apply_chat_template")  # a tokenizer in Python
    return core.decoder is not None and type(core.decoder).__name__ != "ByteLevel"


def _decode(tokenizer: Any, ids: Sequence[int], skip_special_tokens: bool) -> str:
    return tokenizer.decode(
        list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
    )
