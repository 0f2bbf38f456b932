"""What llm_gym's RLOO and GRPO need beside settings to be TRL's to the letter.

TRL 1.16 cuts a batch into minibatches once and goes through the same ones in every epoch.
"""

from __future__ import annotations

from typing import Any

import llm_gym
from llm_gym.learning.buffer import Segment


class FixedMinibatches(llm_gym.EpisodeBuffer):
    """Minibatches of equally many episodes, the same ones in every epoch of a rollout.

    Attributes:
        order: Places of the episodes, int `(n,)`; None until it is drawn. It may be set instead.
    """

    order: Any = None

    def reset(self) -> None:
        """Empties the buffer."""
        super().reset()
        self.order = None

    def minibatches(self, batch_size: int | None) -> list[list[Segment]]:
        """Splits the episodes, in an order drawn once a rollout.

        Args:
            batch_size: Tokens of a minibatch of the longest episodes.
        """
        segments = self.segments()
        if self.order is None:
            self.order = self.rng.permutation(len(segments))
        members = len(segments) if batch_size is None else batch_size // self.buffer_size
        return [
            [segments[i] for i in self.order[first : first + members]]
            for first in range(0, len(segments), members)
        ]
