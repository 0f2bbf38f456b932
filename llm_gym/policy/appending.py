"""Decides whether several tokens at once may be put behind what a cache has read of a row.

A world that answers in a conversation adds more than one token. Rows grow by different numbers of
them, at different lengths, which only explicit masks and positions can say: ALiBi counts columns,
and no list of architectures can be complete. So the model is asked when it first happens, and again
when rows have outgrown another window of its configuration: what it says then is compared with a
plain pass over the same rows.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from llm_gym.policy.sampling import tolerance
from llm_gym.policy.windows import windows

if TYPE_CHECKING:
    from llm_gym.policy.trunk import Trunk


class Appending:
    """Whether a trunk reads several new tokens of a row in one pass.

    Attributes:
        passed: False reads such rows anew, from their beginning, which is right and slower.
    """

    def __init__(self, *, passed: bool) -> None:
        self.passed = passed
        self._asked: set[tuple[torch.device, int]] = set()

    def agrees(
        self, trunk: Trunk, ids: torch.Tensor, slots: torch.Tensor, hidden: torch.Tensor
    ) -> bool:
        """Whether what was read is what a plain pass reads; compares them where that is due.

        Args:
            trunk: The trunk.
            ids: int64 `(b, S)`, the rows from their beginning.
            slots: int64 `(b, K)`, columns of the tokens that were read.
            hidden: float `(b, K, H)`, what was read of them.
        """
        length = ids.shape[1]
        question = ids.device, sum(window < length for window in windows(trunk.config))
        if question in self._asked:
            return True
        self._asked.add(question)
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        plain = trunk.full(ids)[rows, slots]
        apart, tolerated = float((hidden - plain).abs().max()), tolerance(plain, plain.dtype)
        if apart <= tolerated:
            return True
        self.passed = False
        warnings.warn(
            f"models of type {trunk.config.model_type!r} cannot read several new tokens of a row "
            f"at once: hidden states differ by {apart:.1e} from those of a plain pass (tolerance "
            f"{tolerated:.0e}); such rows are read from their beginning instead, which is right "
            "but slower",
            stacklevel=2,
        )
        return False
