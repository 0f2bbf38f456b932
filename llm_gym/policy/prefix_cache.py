"""Keys and values of what was read, with rows that stand at different lengths.

Slot `j` of a row holds the keys and values of that row's token `j`: nothing is shifted when one row
starts anew while its neighbours go on, and nothing is copied when a token is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True)
class WritePlan:
    """Where the forward pass that follows writes, and what it may read.

    Attributes:
        rows: int64 `(b,)`: the cache rows written to, or `None` for all of them in order.
        sources: int64 `(b,)`: which row of the pass each of them is; rows of equal contents are
            read once. Asked for where `rows` are written to from `start` on.
        start: First slot written, the same for all rows, or `None` if rows differ.
        positions: int64 `(N,)`: the slot each row's single token goes to, where `start` is
            `None`; or int64 `(b, K)`, the slots of the tokens of `rows`.
        length: Number of slots that attention reads.
    """

    rows: torch.Tensor | None
    start: int | None
    positions: torch.Tensor | None
    length: int
    sources: torch.Tensor | None = None


class _Layer(CacheLayerMixin):
    """Keys and values of one layer, float `(N, heads, capacity, head_dim)` each."""

    is_sliding = False

    def __init__(self, n_rows: int, capacity: int) -> None:
        super().__init__()
        self.n_rows, self.capacity = n_rows, capacity
        self.plan = WritePlan(None, 0, None, 0)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        def allocate(states: torch.Tensor) -> torch.Tensor:
            return states.new_zeros((self.n_rows, states.shape[1], self.capacity, states.shape[-1]))

        self.keys, self.values = allocate(key_states), allocate(value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        plan = self.plan
        if plan.rows is not None and plan.positions is not None:  # several, each in its own slot
            rows = plan.rows
            # Indices apart: (b, K, heads, head_dim).
            self.keys[rows[:, None], :, plan.positions] = key_states.transpose(1, 2)
            self.values[rows[:, None], :, plan.positions] = value_states.transpose(1, 2)
            return self.keys[rows, :, : plan.length], self.values[rows, :, : plan.length]
        if plan.start is None:  # one token a row, each in its own slot
            rows = torch.arange(self.n_rows, device=key_states.device)
            self.keys[rows, :, plan.positions] = key_states[:, :, 0]
            self.values[rows, :, plan.positions] = value_states[:, :, 0]
            return self.keys[:, :, : plan.length], self.values[:, :, : plan.length]
        if plan.rows is None:
            self.keys[:, :, plan.start : plan.length] = key_states
            self.values[:, :, plan.start : plan.length] = value_states
            return self.keys[:, :, : plan.length], self.values[:, :, : plan.length]
        self.keys[plan.rows, :, : plan.length] = key_states[plan.sources]
        self.values[plan.rows, :, : plan.length] = value_states[plan.sources]
        return key_states, value_states

    def keep_rows(self, rows: torch.Tensor) -> None:
        """As `PrefixCache.keep_rows`; only rows that move are copied."""
        self.n_rows = len(rows)
        if not self.is_initialized:
            return
        assert self.keys is not None
        assert self.values is not None
        places = torch.arange(self.n_rows, device=rows.device)
        moves = (rows != places).nonzero().squeeze(1)
        for states in (self.keys, self.values):
            states[moves] = states[rows[moves]]
        self.keys, self.values = self.keys[: self.n_rows], self.values[: self.n_rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.plan.length, 0

    def get_seq_length(self) -> int:
        """Tokens before the query; models derive the query's offset in the mask from it."""
        if self.plan.start is not None:
            return self.plan.start
        positions = self.plan.positions
        n_tokens = 1 if positions is None or positions.ndim == 1 else positions.shape[1]
        return self.plan.length - n_tokens

    def get_max_length(self) -> int:
        return self.capacity

    get_max_cache_shape = get_max_length  # its name before transformers 5.15


class PrefixCache(Cache):
    """The layers' keys and values, preallocated for `n_rows` rows of `capacity` tokens."""

    def __init__(self, n_layers: int, n_rows: int, capacity: int) -> None:
        super().__init__(layers=[_Layer(n_rows, capacity) for _ in range(n_layers)])
        self.n_rows, self.capacity = n_rows, capacity

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Holds some rows alone: row `i` is from now on what row `rows[i]`, int64 `(n,)`, was."""
        self.n_rows = len(rows)
        for layer in self.layers:
            layer.keep_rows(rows)

    def prepare(self, plan: WritePlan) -> None:
        """Sets what the next forward pass writes and reads."""
        for layer in self.layers:
            layer.plan = plan
