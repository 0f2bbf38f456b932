"""The tokenizer as the environment uses it: prompts to ids, completions to text, special ids."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from llm_gym.text.options import TextOptions


class Vocabulary:
    """A tokenizer together with the ids that have a meaning to the environment.

    The tokenizer encodes prompts and decodes completions; it is never changed, and never asked to
    encode what the agent wrote.

    Args:
        tokenizer: A Hugging Face tokenizer, or the path or hub name of one.
        options: The environment's options.

    Attributes:
        tokenizer: The tokenizer.
        size: Number of token ids V; actions are 0..V-1.
        eos_token_ids: int64 `(E,)`, ids that end an episode; may be empty.
        pad_token_id: Id that fills the observation to the right.
        is_eos: bool `(V,)`, true for ids that end an episode.

    Raises:
        TypeError: The tokenizer is not one.
        ValueError: The EOS or pad id is missing or outside the vocabulary.
    """

    def __init__(self, tokenizer: Any, options: TextOptions) -> None:
        self.tokenizer = _load(tokenizer)
        self.size = len(self.tokenizer) if options.vocab_size is None else int(options.vocab_size)
        self._add_special_tokens = options.add_special_tokens
        self.eos_token_ids = self.checked_ids("eos_token_id", self._resolve_eos(options))
        self.pad_token_id = self._resolve_pad(options)
        self.is_eos = np.zeros(self.size, dtype=bool)
        self.is_eos[self.eos_token_ids] = True

    def _resolve_eos(self, options: TextOptions) -> Sequence[int]:
        eos = options.eos_token_id
        if eos is None:
            eos = getattr(self.tokenizer, "eos_token_id", None)
            if eos is None:
                raise ValueError(
                    "the tokenizer has no EOS token: pass eos_token_id= (an id or a list of ids), "
                    "or eos_token_id=() if no token ends an episode"
                )
        return eos if isinstance(eos, Sequence) else [eos]

    def _resolve_pad(self, options: TextOptions) -> int:
        pad = options.pad_token_id
        if pad is None:
            pad = getattr(self.tokenizer, "pad_token_id", None)
        if pad is None:
            raise ValueError(
                "the tokenizer has no pad token: pass pad_token_id= (the EOS id will do: masks, "
                "not ids, say what is padding)"
            )
        return int(pad)

    def checked_ids(self, name: str, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Checks token ids that the user gave.

        Args:
            name: Name of the argument, for the message.
            ids: Token ids.

        Returns:
            int64 `(len(ids),)`.

        Raises:
            TypeError: An id is not an integer.
            ValueError: An id is outside the vocabulary.
        """
        try:
            checked = np.array([operator.index(token) for token in ids], dtype=np.int64)
        except TypeError as error:
            raise TypeError(f"{name} must be integers, got {ids!r}") from error
        outside = checked[(checked < 0) | (checked >= self.size)]
        if outside.size:
            raise ValueError(
                f"{name} contains {outside[0]}, outside the vocabulary of {self.size} ids; "
                "pass vocab_size=model.config.vocab_size if the model's table is larger"
            )
        return checked

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encodes prompts.

        Args:
            texts: B prompts.

        Returns:
            B lists of token ids, without padding.
        """
        # verbose=False: whether a prompt is too long is ours to say.
        return self.tokenizer(
            list(texts),
            add_special_tokens=self._add_special_tokens,
            padding=False,
            truncation=False,
            verbose=False,
        )["input_ids"]

    def decode(self, ids: Sequence[int] | np.ndarray, *, skip_special_tokens: bool) -> str:
        """Decodes token ids; ids that the tokenizer does not know give no text.

        Args:
            ids: Token ids.
            skip_special_tokens: Leave out EOS, pad and the like.

        Returns:
            The text, spaces as they are.
        """
        return self.tokenizer.decode(
            [int(token) for token in ids],
            skip_special_tokens=skip_special_tokens,
            clean_up_tokenization_spaces=False,
        )


def _load(tokenizer: Any) -> Any:
    if isinstance(tokenizer, (str, PathLike)):
        from llm_gym.language_models import load_tokenizer

        return load_tokenizer(fspath(tokenizer))
    methods = (getattr(tokenizer, "decode", None), tokenizer)
    if not all(callable(method) for method in methods) or not hasattr(tokenizer, "__len__"):
        raise TypeError(
            f"tokenizer must be a Hugging Face tokenizer, or the path or hub name of one, "
            f"got {type(tokenizer).__name__}"
        )
    return tokenizer
