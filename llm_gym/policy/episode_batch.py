"""Whole episodes as one batch of observations: what lets one forward pass serve every token."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class EpisodeBatch:
    """`B` episodes with `A` actions in all, in place of `A` padded prefixes.

    A causal model computes the distribution after *every* prefix of a sequence in one pass, so the
    observations of all steps of an episode are the episode itself and the places of its actions.

    Attributes:
        input_ids: int64 `(B, S)`: prompts with their actions, padded on the right.
        action_rows: int64 `(A,)`: the row of each action.
        action_slots: int64 `(A,)`: the column of each action's own token; the observation it was
            chosen in ends one column before.
        support: uint8 `(A, ceil(V / 8))` or `None`: the tokens that top-k or top-p left to
            choose from when the action was sampled, packed eight to a byte (see
            `pack_support`). `None` where nothing was cut.
    """

    input_ids: torch.Tensor
    action_rows: torch.Tensor
    action_slots: torch.Tensor
    support: torch.Tensor | None = None

    @property
    def actions(self) -> torch.Tensor:
        """The action tokens, int64 `(A,)`."""
        return self.input_ids[self.action_rows, self.action_slots]

    @property
    def context(self) -> torch.Tensor:
        """What the model has to read, int64 `(B, S - 1)`: nothing is chosen after the last."""
        return self.input_ids[:, :-1]

    def to(self, device: torch.device | str) -> EpisodeBatch:
        """The same batch on another device."""
        support = None if self.support is None else self.support.to(device)
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            action_rows=self.action_rows.to(device),
            action_slots=self.action_slots.to(device),
            support=support,
        )


def pack_support(support: torch.Tensor) -> torch.Tensor:
    """Packs bool `(A, V)` into uint8 `(A, ceil(V / 8))`, the lowest bit first."""
    n_rows, n_tokens = support.shape
    padded = torch.nn.functional.pad(support, (0, -n_tokens % 8)).view(n_rows, -1, 8)
    weights = 2 ** torch.arange(8, device=support.device, dtype=torch.uint8)
    return (padded.to(torch.uint8) * weights).sum(-1, dtype=torch.uint8)


def unpack_support(packed: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """The inverse of `pack_support`: uint8 `(A, ceil(V / 8))` to bool `(A, V)`."""
    weights = 2 ** torch.arange(8, device=packed.device, dtype=torch.uint8)
    bits = (packed[..., None] & weights) != 0  # (A, ceil(V / 8), 8)
    return bits.flatten(1)[:, :n_tokens]
