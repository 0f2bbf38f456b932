"""Rows of different lengths in a few passes in place of one, so that little padding is computed."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.int64]

_PRICE = {"cpu": 64}
_PRICE_ELSEWHERE = 1024


def price_of_a_pass(device: torch.device) -> int:
    """What a pass costs beside its tokens, in tokens.

    Measured on one thread (torch 2.13) with models of 1 million weights: with 32 to 128 the cost
    was the same within 5 %. Other devices compute tokens side by side, and pay for a pass mostly in
    launches; theirs is a guess on the safe side.
    """
    return _PRICE.get(device.type, _PRICE_ELSEWHERE)


class Pass(NamedTuple):
    """Some rows that are read together.

    Attributes:
        rows: int64 `(n,)`, which ones of all.
        length: Tokens of the longest one.
        actions: int64 `(a,)`, the numbers of the actions in them, among all.
        action_rows: int64 `(a,)`, the row of each of these, from 0 to `n - 1`.
        slots: int64 `(a,)`, the column that each was chosen in.
    """

    rows: torch.Tensor
    length: int
    actions: torch.Tensor
    action_rows: torch.Tensor
    slots: torch.Tensor


def passes(
    lengths: Numbers, action_rows: torch.Tensor, slots: torch.Tensor, price: int
) -> list[Pass]:
    """Which rows are read together, and where their actions are.

    Args:
        lengths: int64 `(B,)`, tokens that are read of each row.
        action_rows: int64 `(A,)`, the row of each action.
        slots: int64 `(A,)`, the column it was chosen in.
        price: As for `buckets`.
    """
    device, found = action_rows.device, []
    for bucket in buckets(lengths, price):
        rows = torch.as_tensor(bucket, device=device)
        places = torch.full((len(lengths),), -1, device=device)
        places[rows] = torch.arange(len(rows), device=device)
        within = places[action_rows]
        actions = (within >= 0).nonzero().squeeze(1)
        length = int(lengths[bucket].max())
        found.append(Pass(rows, length, actions, within[actions], slots[actions]))
    return found


def in_order(values: list[torch.Tensor], parts: list[Pass]) -> torch.Tensor:
    """What each pass gave for its actions, in the actions' own order: float `(A, ...)`.

    Args:
        values: Float `(a, ...)` of each pass.
        parts: The passes.
    """
    if len(parts) == 1:
        return values[0]
    return torch.cat(values)[torch.cat([part.actions for part in parts]).argsort()]


def buckets(lengths: Numbers, price: int) -> list[Numbers]:
    """Splits rows into passes, each padded to its own longest row, that cost least together.

    Args:
        lengths: int64 `(B,)`, tokens that are read of each row; rows of none are left out.
        price: What a pass costs beside its tokens, in tokens.

    Returns:
        The rows of each pass, int64, in their own order; the longest rows come first.
    """
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    longest = lengths[order]
    n_rows = len(order)
    cost = np.zeros(n_rows + 1)  # of the rows before each one, at best
    first = np.zeros(n_rows + 1, dtype=np.int64)
    for stop in range(1, n_rows + 1):
        in_all = cost[:stop] + longest[:stop] * np.arange(stop, 0, -1) + price
        first[stop] = in_all.argmin()
        cost[stop] = in_all[first[stop]]
    passes, stop = [], n_rows
    while stop:
        passes.append(np.sort(order[first[stop] : stop]))
        stop = int(first[stop])
    return passes[::-1]
