"""The tokenizer as the environment uses it: to ids, to text, special ids, stop strings."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from llm_gym.text.options import TextOptions

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what an incomplete UTF-8 sequence decodes to


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


class StopStrings:
    """Says which completions contain a stop string, wherever token boundaries fall.

    A completion is decoded only after a token that could be the last of a stop string, which a
    table over the vocabulary tells. Special tokens count, so `<|im_end|>` can be a stop string.

    Args:
        vocabulary: Vocabulary of the environment.
        stop_strings: The strings.
    """

    def __init__(self, vocabulary: Vocabulary, stop_strings: Sequence[str]) -> None:
        self._vocabulary = vocabulary
        self._stop_strings = tuple(stop_strings)
        self._may_complete = self._table() if self._stop_strings else None

    def _table(self) -> np.ndarray:  # bool (V,)
        last_characters = {stop[-1] for stop in self._stop_strings} | {_REPLACEMENT}
        table = np.zeros(self._vocabulary.size, dtype=bool)
        for token in range(self._vocabulary.size):
            # Twice, because some decoders strip the space before the first token.
            text = self._vocabulary.decode([token, token], skip_special_tokens=False)
            table[token] = not last_characters.isdisjoint(text)
        return table

    def candidates(self, actions: np.ndarray) -> np.ndarray | None:
        """Which of the newest tokens could complete a stop string.

        Args:
            actions: int64 `(B,)`.

        Returns:
            bool `(B,)`, or None if there are no stop strings.
        """
        return None if self._may_complete is None else self._may_complete[actions]

    def found_in(self, completion_ids: np.ndarray) -> bool:
        """Whether a completion contains a stop string.

        Args:
            completion_ids: int64 `(T,)`.
        """
        text = self._vocabulary.decode(completion_ids, skip_special_tokens=False)
        return any(stop in text for stop in self._stop_strings)

    def strip(self, completion_ids: np.ndarray) -> str:
        """The completion's text up to the first stop string, special tokens skipped.

        Args:
            completion_ids: int64 `(T,)`, in which `found_in` finds a stop string.
        """
        text = self._vocabulary.decode(completion_ids, skip_special_tokens=True)
        ends = [text.find(stop) for stop in self._stop_strings if stop in text]
        return text[: min(ends)] if ends else text


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
