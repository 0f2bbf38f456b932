"""The tokenizer as the environment uses it: to ids, to text, special ids, stop strings."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.language_models.chat import PromptFormat
from llm_gym.language_models.decoding import decode_after, special_ids

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
        prompt_format: How prompts are shown to the model.
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
        self._name = fspath(tokenizer) if isinstance(tokenizer, (str, PathLike)) else None
        self.prompt_format = PromptFormat(
            self.tokenizer, options.prompt_template, options.add_special_tokens
        )
        self.size = len(self.tokenizer) if options.vocab_size is None else int(options.vocab_size)
        self._special = special_ids(self.tokenizer)
        self.eos_token_ids = self.checked_ids("eos_token_id", self._resolve_eos(options))
        self.pad_token_id = self._resolve_pad(options)
        self.is_eos = np.zeros(self.size, dtype=bool)
        self.is_eos[self.eos_token_ids] = True

    def also_end_with(self, token_ids: Sequence[int]) -> None:
        """Has further ids end an episode."""
        ends = [*self.eos_token_ids.tolist(), *token_ids]
        self.eos_token_ids = self.checked_ids("eos_token_id", list(dict.fromkeys(ends)))
        self.is_eos[self.eos_token_ids] = True

    def _resolve_eos(self, options: TextOptions) -> Sequence[int]:
        eos = options.eos_token_id
        if eos is None:
            known = self.prompt_format.end_token_ids(self._name)
            # An id outside the vocabulary is no action, so it can end nothing.
            eos = [token for token in known if token < self.size]
            if not eos:
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
            listed = list(ids)
            checked = np.array([operator.index(token) for token in listed], dtype=np.int64)
        except TypeError as error:
            raise TypeError(f"{name} must be integers, got {ids!r}") from error
        except OverflowError:
            raise ValueError(f"{name}={ids!r} has an id beyond any vocabulary") from None
        if bool in set(map(type, listed)):
            raise TypeError(f"{name} must be token ids, no switches, got {ids!r}")
        outside = checked[(checked < 0) | (checked >= self.size)]
        if outside.size:
            raise ValueError(
                f"{name} contains {outside[0]}, outside the vocabulary of {self.size} ids; "
                "pass vocab_size=model.config.vocab_size if the model's table is larger; if tokens "
                "were added to the tokenizer, call model.resize_token_embeddings(len(tokenizer)) "
                "and save the model again"
            )
        return checked

    def decode(
        self,
        ids: Sequence[int] | np.ndarray,
        *,
        skip_special_tokens: bool,
        after: Sequence[int] | np.ndarray = (),
    ) -> str:
        """Decodes token ids; ids that the tokenizer does not know give no text.

        Args:
            ids: Token ids.
            skip_special_tokens: Leave out EOS, pad and the like.
            after: Ids that stand before them: what they add to those is the text.

        Returns:
            The text, spaces as they are.
        """
        return decode_after(
            self.tokenizer,
            after,
            ids,
            skip_special_tokens=skip_special_tokens,
            special=self._special,
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

    def found_in(self, completion_ids: np.ndarray, prompt_ids: np.ndarray) -> bool:
        """Whether a completion contains a stop string.

        Args:
            completion_ids: int64 `(T,)`.
            prompt_ids: int64 `(P,)`, what stands before it.
        """
        text = self._vocabulary.decode(completion_ids, skip_special_tokens=False, after=prompt_ids)
        return any(stop in text for stop in self._stop_strings)

    def strip(self, completion_ids: np.ndarray, prompt_ids: np.ndarray) -> str:
        """The completion's text up to the first stop string, special tokens skipped.

        Args:
            completion_ids: int64 `(T,)`, in which `found_in` finds a stop string.
            prompt_ids: int64 `(P,)`, what stands before it.
        """
        text = self._vocabulary.decode(completion_ids, skip_special_tokens=True, after=prompt_ids)
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
