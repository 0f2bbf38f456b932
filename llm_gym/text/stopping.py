"""Finding stop strings in a completion without decoding it at every step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llm_gym.text.vocabulary import Vocabulary

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what an incomplete UTF-8 sequence decodes to


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
