"""Action masks: forbidden ids, a minimum length, lists of allowed ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from llm_gym.text.options import TextOptions
    from llm_gym.text.vocabulary import Vocabulary


class ActionMasks:
    """Computes which actions are allowed.

    Args:
        vocabulary: Vocabulary of the environment.
        options: `forbidden_token_ids`, `min_new_tokens` and `allowed_token_ids` are used.

    Attributes:
        active: Whether any of these options restricts the actions.

    Raises:
        ValueError: The options leave no action, or name ids outside the vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary, options: TextOptions) -> None:
        self._vocabulary = vocabulary
        self._min_new_tokens = options.min_new_tokens
        allowed = options.allowed_token_ids
        self._allowed_of_state: Callable[[list[int], list[int]], Sequence[int]] | None = None
        base = np.ones(vocabulary.size, dtype=np.int8)
        if callable(allowed):
            self._allowed_of_state = allowed
        elif allowed is not None:
            base[:] = 0
            base[vocabulary.checked_ids("allowed_token_ids", allowed)] = 1
        forbidden = vocabulary.checked_ids("forbidden_token_ids", options.forbidden_token_ids)
        base[forbidden] = 0
        self._base = base  # (V,)
        self._early = np.where(vocabulary.is_eos, 0, base).astype(np.int8)  # (V,), before EOS may
        self.active = allowed is not None or bool(forbidden.size) or options.min_new_tokens > 0
        usable = self._early if options.min_new_tokens else self._base
        if not usable.any():
            raise ValueError(
                "no action is left: allowed_token_ids, forbidden_token_ids and min_new_tokens "
                "together mask the whole vocabulary"
            )

    def masks(
        self, generated: np.ndarray, states: Callable[[int], tuple[list[int], list[int]]]
    ) -> np.ndarray:
        """Masks of the next action of B rows.

        Args:
            generated: int64 `(B,)`, tokens generated so far.
            states: Gives the prompt's and the completion's ids of the b-th row.

        Returns:
            int8 `(B, V)`, 1 where the action is allowed; a new array.

        Raises:
            ValueError: The callable `allowed_token_ids` leaves no action.
        """
        early = generated < self._min_new_tokens  # (B,)
        masks = np.where(early[:, None], self._early, self._base)  # (B, V)
        if self._allowed_of_state is not None:
            for row in range(len(generated)):
                self._apply_allowed(masks[row], *states(row))
        return masks

    def _apply_allowed(
        self, mask: np.ndarray, prompt_ids: list[int], completion_ids: list[int]
    ) -> None:
        function = cast(Callable, self._allowed_of_state)
        ids = self._vocabulary.checked_ids(
            "the answer of allowed_token_ids", function(prompt_ids, completion_ids)
        )
        allowed = np.zeros_like(mask)
        allowed[ids] = 1
        mask &= allowed
        if not mask.any():
            raise ValueError(
                f"allowed_token_ids leaves no action after {len(completion_ids)} tokens: it "
                f"returned {ids.tolist()}, of which none is allowed by forbidden_token_ids and "
                "min_new_tokens"
            )
