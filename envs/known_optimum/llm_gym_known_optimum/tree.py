"""All answers of up to T words, as the tree of their prefixes.

Arrays go layer by layer. Layer d holds the `V^d` prefixes of d words, a prefix being the number
whose digits its words are, so the children of node `n` are `n V .. n V + V - 1`. Where answers
may end early there is one action more, which ends the answer. `P` prompts share one tree; `A`
is the number of actions and `Y` that of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_ANSWERS", "AnswerTree", "Layers"]

Layers: TypeAlias = "tuple[torch.Tensor, ...]"
"""One tensor for each layer `d < T`: `(P, V^d, A)` for actions, `(P, V^d)` for prefixes."""

MAX_ANSWERS = 1_000_000
"""More answers than this are refused: arrays over them are held in memory at once."""


@dataclass(frozen=True)
class AnswerTree:
    """The answers, and sums over them.

    Answers are in order of their length, those of one length by their number.

    Args:
        n_words: V, at least 2.
        length: T, most words of an answer, at least 1.
        ends_early: Whether one more action, the end, makes shorter answers possible.

    Raises:
        ValueError: A number is too small, or there are too many answers to list.
    """

    n_words: int
    length: int
    ends_early: bool = False

    def __post_init__(self) -> None:
        for name, least in (("n_words", 2), ("length", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")
        if self.n_words**self.length > MAX_ANSWERS:
            raise ValueError(
                f"n_words={self.n_words} and length={self.length} make "
                f"{self.n_words**self.length:,} answers; at most {MAX_ANSWERS:,} can be listed"
            )

    @property
    def n_actions(self) -> int:
        """A: the words, and the end if there is one."""
        return self.n_words + self.ends_early

    @cached_property
    def answer_lengths(self) -> NDArray[np.int64]:
        """Number of words of each answer, int64 `(Y,)`."""
        lengths = range(self.length + 1) if self.ends_early else [self.length]
        return np.concatenate([np.full(self.n_words**d, d) for d in lengths])

    @property
    def n_answers(self) -> int:
        """Y."""
        return len(self.answer_lengths)

    def words(self, length: int) -> NDArray[np.int64]:
        """The words of all sequences of one length, int64 `(V^length, length)`."""
        codes = np.arange(self.n_words**length)[:, None]
        powers = self.n_words ** np.arange(length - 1, -1, -1)
        return codes // powers % self.n_words

    def index(self, words: Sequence[int]) -> int:
        """The place of an answer among the answers.

        Raises:
            ValueError: It is not one of them.
        """
        shortest = 0 if self.ends_early else self.length
        if not shortest <= len(words) <= self.length:
            raise ValueError(f"{list(words)} has {len(words)} words, answers {self._lengths()}")
        code = 0
        for word in words:
            if not 0 <= word < self.n_words:
                raise ValueError(f"{list(words)} has the word {word}, of {self.n_words}")
            code = code * self.n_words + int(word)
        return code + (sum(self.n_words**d for d in range(len(words))) if self.ends_early else 0)

    def _lengths(self) -> str:
        return f"have up to {self.length}" if self.ends_early else f"have {self.length}"

    # ------------------------------------------------------------------ sums over the tree

    def split(self, values: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Values of answers by their number of words: `(P, Y)` to `T + 1` of `(P, V^d)`.

        `None` stands for a length that no answer has.
        """
        if not self.ends_early:
            return (*[None] * self.length, values)
        return values.split([self.n_words**d for d in range(self.length + 1)], dim=1)

    def prefix_log_probs(self, log_probs: Layers) -> Layers:
        """Log-probability of reaching each prefix, `T + 1` tensors `(P, V^d)`.

        Args:
            log_probs: Log probs of the actions.
        """
        reached = [log_probs[0].new_zeros(len(log_probs[0]), 1)]
        for layer in log_probs:
            longer = reached[-1][..., None] + layer[..., : self.n_words]  # (P, V^d, V)
            reached.append(longer.flatten(1))
        return tuple(reached)

    def answer_log_probs(self, log_probs: Layers) -> torch.Tensor:
        """Log-probability of each answer, `(P, Y)`, differentiable.

        Args:
            log_probs: Log probs of the actions.
        """
        *prefixes, whole = self.prefix_log_probs(log_probs)
        if not self.ends_early:
            return whole
        ended = [
            reached + layer[..., -1] for reached, layer in zip(prefixes, log_probs, strict=True)
        ]
        return torch.cat([*ended, whole], 1)

    def action_values(self, next_values: torch.Tensor, ended: torch.Tensor | None) -> torch.Tensor:
        """What follows each action of a layer, `(P, V^d, A)`.

        Args:
            next_values: Values of the prefixes one word longer, `(P, V^(d + 1))`.
            ended: Values of the answers that end here, `(P, V^d)`; `None` where none do.
        """
        by_word = next_values.unflatten(1, (-1, self.n_words))
        return by_word if ended is None else torch.cat([by_word, ended[..., None]], -1)
