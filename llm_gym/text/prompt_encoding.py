"""Prompts as token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.text.prompt_rows import PromptRow

if TYPE_CHECKING:
    from llm_gym.text.options import TextOptions
    from llm_gym.text.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Prompt:
    """An encoded prompt.

    Attributes:
        index: Place in the list, or number in the stream, from 0; -1 for a prompt given at reset.
        row: The prompt as the user gave it.
        ids: int64 `(P,)`.
    """

    index: int
    row: PromptRow
    ids: np.ndarray


class PromptEncoder:
    """Turns prompt rows into token ids and holds them to the length limit."""

    def __init__(self, vocabulary: Vocabulary, options: TextOptions) -> None:
        self._vocabulary = vocabulary
        self._template = options.prompt_template
        self._truncate = options.truncate_prompts
        self.max_tokens = options.max_prompt_tokens

    def encode(self, rows: Sequence[PromptRow], names: Sequence[str]) -> list[np.ndarray]:
        """Encodes rows.

        Args:
            rows: B prompts.
            names: B names for messages, such as "prompts[3]".

        Returns:
            B int64 arrays `(P,)`, 1 <= P <= max_tokens.

        Raises:
            ValueError: A prompt is too long, has no tokens or needs ids outside the vocabulary, or
                the template asks for a column that is not there.
        """
        texts = [self._fill(row, name) for row, name in zip(rows, names, strict=True)]
        encoded = self._vocabulary.encode(texts)
        return [self._checked(ids, name) for ids, name in zip(encoded, names, strict=True)]

    def _fill(self, row: PromptRow, name: str) -> str:
        fields = {**row.columns, "prompt": row.text}
        try:
            return self._template.format(**fields)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(
                f"prompt_template={self._template!r} cannot be filled from {name}, which has the "
                f"fields {sorted(fields)}: {type(error).__name__} {error}"
            ) from error

    def _checked(self, ids: Sequence[int], name: str) -> np.ndarray:
        if not len(ids):
            raise ValueError(f"{name} is empty: the tokenizer made no tokens of it")
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            if not self._truncate:
                raise ValueError(
                    f"{name} has {len(ids)} tokens, more than max_prompt_tokens="
                    f"{self.max_tokens}; raise the limit, shorten the prompt, or pass "
                    "truncate_prompts=True to keep the last tokens"
                )
            ids = ids[-self.max_tokens :]
        return self._vocabulary.checked_ids(f"the encoding of {name}", ids)


def prompt_to_state(prompt: Prompt) -> dict[str, Any]:
    """A prompt in full as JSON-able values, as far as its columns are."""
    return {
        "index": prompt.index,
        "prompt": prompt.row.text,
        "columns": dict(prompt.row.columns),
        "ids": prompt.ids.tolist(),
    }


def prompt_from_state(state: Mapping[str, Any]) -> Prompt:
    """The inverse of `prompt_to_state`."""
    row = PromptRow(state["prompt"], dict(state["columns"]))
    return Prompt(int(state["index"]), row, np.array(state["ids"], dtype=np.int64))
