"""Text of token ids that stand behind others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_TAIL = 32  # tokens of context: enough for any character and any rule about a first token


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
