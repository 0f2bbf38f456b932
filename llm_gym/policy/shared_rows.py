"""Answers that begin alike, laid out in one row: what they share is read once.

A group of answers to one prompt becomes `[prompt][answer 1][answer 2]...`. Positions restart behind
the prompt, and a token sees the prompt and its own answer. What an answer's tokens are told is what
they are told in a row of their own, so hidden states are the same up to rounding. Attention over
such a row also computes what nobody may see: long rows are cut where that costs more than it saves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from llm_gym.policy.buckets import Numbers, buckets
from llm_gym.policy.sampling import EpisodeBatch

_WORTH_IT = 0.9  # of the plain pass's cost: laying out and masks cost something as well
NOBODY = -1
"""Owner of padding."""


@dataclass(frozen=True)
class SharedRows:
    """`R` rows that hold what an `EpisodeBatch` holds in `B`, and where its `A` actions are.

    Attributes:
        input_ids: int64 `(R, S)`, padded on the right.
        position_ids: int64 `(R, S)`, each token's column in a row of its own.
        owners: int64 `(R, S)`: 0 on what a row's answers share, then 1, 2, ... on the answers, -1
            on padding.
        rows: int64 `(A,)`, the row in which each action was chosen.
        slots: int64 `(A,)`, the column it was chosen in: that of the token before it.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    owners: torch.Tensor
    rows: torch.Tensor
    slots: torch.Tensor

    @property
    def lengths(self) -> Numbers:
        """int64 `(R,)`, tokens of each row."""
        return (self.owners != NOBODY).sum(1).cpu().numpy()

    @property
    def spans(self) -> list[list[int]]:
        """Of each row the number of tokens that its answers share, and of each answer's own."""
        owners = self.owners.cpu().numpy()
        return [np.bincount(row[row != NOBODY], minlength=1).tolist() for row in owners]

    @property
    def visible(self) -> torch.Tensor:
        """Bool `(R, S, S)`: which keys (last) a query may see; padding sees itself at least."""
        columns = torch.arange(self.owners.shape[1], device=self.owners.device)
        own = self.owners[:, :, None] == self.owners[:, None, :]
        shared = self.owners[:, None, :] == 0
        return (own | shared) & (columns <= columns[:, None])

    def some(self, rows: torch.Tensor, length: int) -> SharedRows:
        """Rows int64 `(n,)` alone, cut to a length; `rows` and `slots` stay those of all."""
        return replace(
            self,
            input_ids=self.input_ids[rows, :length],
            position_ids=self.position_ids[rows, :length],
            owners=self.owners[rows, :length],
        )


def apart(batch: EpisodeBatch) -> SharedRows:
    """A batch's rows as they are: nothing is shared, and what is not read is padding."""
    columns = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device)
    read = torch.as_tensor(batch.lengths_read, device=columns.device)[:, None]
    owners = torch.where(columns < read, 0, NOBODY)
    positions = columns.expand_as(batch.input_ids)
    return SharedRows(batch.input_ids, positions, owners, batch.action_rows, batch.action_slots - 1)


def share(
    batch: EpisodeBatch,
    width: int,
    longest: int | None = None,
    *,
    always: bool = False,
    packed: bool = False,
    price: int = 0,
) -> SharedRows | None:
    """Lays out a batch so that rows which begin alike share their beginning.

    Args:
        batch: Episodes. Tokens behind a row's last action are not read.
        width: Of the hidden states: how costly attention is beside the rest of a layer.
        longest: Most tokens of a row; `None` is any number.
        always: Share all that can be shared, whatever it costs.
        packed: Rows are read packed (`llm_gym.policy.packed_rows`): attention computes nothing that
            nobody may see, so rows are not cut, and `longest` and `price` mean nothing.
        price: What a pass over some rows costs beside its tokens, in tokens
            (`llm_gym.policy.buckets`).

    Returns:
        The rows on the batch's device, or `None` if a plain pass is no dearer.
    """
    if len(batch.input_ids) < 2:
        return None
    ids, read = batch.context.cpu().numpy(), batch.lengths_read
    rows, columns = batch.action_rows.cpu().numpy(), batch.action_slots.cpu().numpy() - 1
    beginnings = _Beginnings(ids, read)
    most = max(stop - first for first, stop in beginnings.groups)
    if always:
        size = most
    elif packed:  # attention costs less in any case
        tokens = sum(beginnings.lengths(beginnings.pieces(most)))
        size = most if tokens <= _WORTH_IT * read.sum() else 1
    else:
        size = _cheapest(beginnings, most, width, longest, price)
    return None if size == 1 else beginnings.laid_out(size, rows, columns, batch.input_ids.device)


def _cheapest(
    beginnings: _Beginnings, most: int, width: int, longest: int | None, price: int
) -> int:
    """How many answers a row holds at most where that costs least."""
    costs = {}
    for size in sorted({*(2**k for k in range(most.bit_length())), most}):
        lengths = beginnings.lengths(beginnings.pieces(size))
        if size > 1 and longest is not None and max(lengths) > longest:
            break
        costs[size] = _cost(np.array(lengths), width, price)
    plain = _cost(beginnings.read, width, price)
    best = min(costs, key=lambda size: costs[size], default=1)
    return best if costs[best] <= _WORTH_IT * plain else 1


def _cost(lengths: Numbers, width: int, price: int) -> float:
    """Of the passes over rows of these lengths, in arbitrary units.

    Attention beside the rest of a layer, forward and backward in float32 on one thread, width 576:
    16 % at 166 tokens, 30 % at 512, 54 % at 1024 (torch 2.13); this says 14, 44 and 89 %, since
    without PyTorch's fused attention it is more.
    """
    cost = 0.0
    for rows in buckets(lengths, price):
        length = int(lengths[rows].max())
        cost += len(rows) * length * (2 * width + length) + price * 2 * width
    return cost


class _Beginnings:
    """What the rows of a batch have in common.

    Attributes:
        groups: Rows that share their beginning, as ranges of places in `order`.
    """

    def __init__(self, ids: Numbers, read: Numbers) -> None:
        """Compares rows int64 `(B, S)` up to the tokens that are read of them, int64 `(B,)`."""
        self.ids, self.read = ids, read
        known = np.where(np.arange(ids.shape[1]) < read[:, None], ids, -1)
        # In lexical order rows that begin alike are neighbours.
        self.order = np.lexsort(known.T[::-1])
        before, after = self.order[:-1], self.order[1:]
        differ = known[before] != known[after]
        same = np.where(differ.any(1), differ.argmax(1), ids.shape[1])
        self.common = np.minimum(same, np.minimum(read[before], read[after]))  # (B - 1,)
        self.groups = list(pairwise([*_group(self.common), len(ids)]))

    def pieces(self, size: int) -> list[tuple[int, int]]:
        """The groups, cut evenly into pieces of no more rows than that."""
        cut = []
        for first, stop in self.groups:
            n_pieces = -(-(stop - first) // size)
            ends = [first + (stop - first) * k // n_pieces for k in range(n_pieces + 1)]
            cut += list(pairwise(ends))
        return cut

    def shared(self, piece: tuple[int, int]) -> int:
        """Tokens that the rows of a piece share; a row alone shares all with itself."""
        first, stop = piece
        if stop - first == 1:
            return int(self.read[self.order[first]])
        return int(self.common[first : stop - 1].min())

    def lengths(self, pieces: list[tuple[int, int]]) -> list[int]:
        """Tokens of each piece as one row."""
        totals = np.concatenate([[0], np.cumsum(self.read[self.order])])
        return [
            int(totals[stop] - totals[first]) - (stop - first - 1) * self.shared((first, stop))
            for first, stop in pieces
        ]

    def laid_out(
        self, size: int, rows: Numbers, columns: Numbers, device: torch.device
    ) -> SharedRows:
        """Rows of at most `size` answers, and where the tokens at int64 `(A,)` places went."""
        pieces = self.pieces(size)
        shape = len(pieces), max(self.lengths(pieces))
        ids, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        owners = np.full(shape, NOBODY, dtype=np.int64)
        row_of, prompt, moved = (np.zeros(len(self.ids), dtype=np.int64) for _ in range(3))
        for row, piece in enumerate(pieces):
            shared = end = self.shared(piece)
            first = self.order[piece[0]]
            ids[row, :shared], positions[row, :shared] = self.ids[first, :shared], np.arange(shared)
            owners[row, :shared] = 0
            for owner, member in enumerate(self.order[slice(*piece)], start=1):
                start, end = end, end + int(self.read[member]) - shared
                ids[row, start:end] = self.ids[member, shared : self.read[member]]
                positions[row, start:end] = np.arange(shared, self.read[member])
                owners[row, start:end] = owner
                row_of[member], prompt[member], moved[member] = row, shared, start - shared
        slots = np.where(columns < prompt[rows], columns, columns + moved[rows])
        parts = (ids, positions, owners, row_of[rows], slots)
        return SharedRows(*(torch.as_tensor(part, device=device) for part in parts))


def _group(common: Numbers) -> list[int]:
    """Parts sorted rows so that groups which share their beginning save most tokens.

    A group of `k` rows saves `k - 1` times the beginning that all of them share: a system prompt
    before all prompts joins nothing.

    Args:
        common: int64 `(B - 1,)`, tokens that neighbours share.

    Returns:
        The first row of each group.
    """
    n_rows = len(common) + 1
    saved = np.zeros(n_rows + 1, dtype=np.int64)  # by the rows up to each one, at best
    first = [0] * (n_rows + 1)
    for stop in range(1, n_rows + 1):
        least = np.minimum.accumulate(common[: stop - 1][::-1])[::-1]
        in_all = saved[:stop].copy()  # by the first row of the last group
        in_all[:-1] += least * np.arange(stop - 1, 0, -1)
        first[stop] = stop - 1 - int(in_all[::-1].argmax())  # the smallest of equally good ones
        saved[stop] = in_all[first[stop]]
    firsts, row = [], n_rows
    while row:
        row = first[row]
        firsts.append(row)
    return firsts[::-1]
