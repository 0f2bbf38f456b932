"""Rows of token ids of different lengths as one batch: padded on the right, answers found again.

What is padding is known from lengths, never from ids, so a tokenizer whose pad token is its EOS
token works too. Padding on the right is invisible to the tokens before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    TokenIds: TypeAlias = Sequence[int] | NDArray[np.int64]

Members = TypeVar("Members", bound="Sequence[Any] | NDArray[Any]")

IGNORED = -100
"""Label of positions that are no target (the default `ignore_index` of cross-entropy)."""

_NO_ROWS = "rows is empty: there is nothing to make a batch of"


class TokenBatch(NamedTuple):
    """`B` rows as one batch, with `A` answer tokens in all.

    Attributes:
        input_ids: int64 `(B, S)`, padded on the right.
        lengths: int64 `(B,)`, tokens of each row.
        answer_rows: int64 `(A,)`, the row of each answer token, row after row.
        answer_slots: int64 `(A,)`, its column; what predicts it stands one column before.
    """

    input_ids: torch.Tensor
    lengths: torch.Tensor
    answer_rows: torch.Tensor
    answer_slots: torch.Tensor

    @property
    def attention_mask(self) -> torch.Tensor:
        """int64 `(B, S)`, 1 on tokens, 0 on padding."""
        import torch

        columns = torch.arange(self.input_ids.shape[1], device=self.input_ids.device)
        return (columns < self.lengths[:, None]).long()

    @property
    def answer_ids(self) -> torch.Tensor:
        """The answer tokens, int64 `(A,)`."""
        return self.input_ids[self.answer_rows, self.answer_slots]

    @property
    def labels(self) -> torch.Tensor:
        """int64 `(B, S)`: the ids of answer tokens, `IGNORED` on prompts and padding."""
        import torch

        labels = torch.full_like(self.input_ids, IGNORED)
        labels[self.answer_rows, self.answer_slots] = self.answer_ids
        return labels


def pack(
    rows: Sequence[TokenIds],
    prompt_lengths: Sequence[int] | None = None,
    *,
    pad_token_id: int = 0,
    device: torch.device | str | None = None,
) -> TokenBatch:
    """Packs rows, each a prompt and the answer behind it, into one batch.

    Args:
        rows: B rows of token ids, without padding.
        prompt_lengths: How many tokens of each row are prompt; None if all are answer.
        pad_token_id: Fills `input_ids`; which id it is does not matter to a causal model.
        device: Where the batch goes; None is the CPU.

    Returns:
        The batch, of new tensors.

    Raises:
        ValueError: If there are no rows, or a prompt is longer than its row.
    """
    import torch

    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    starts = np.zeros_like(lengths)
    if prompt_lengths is not None:
        starts = np.asarray(prompt_lengths, dtype=np.int64)
    if starts.shape != lengths.shape or (starts > lengths).any() or (starts < 0).any():
        raise ValueError(
            f"prompt_lengths={starts.tolist()} must say of each row how many of its tokens, "
            f"{lengths.tolist()}, are prompt"
        )
    input_ids = pad(rows, pad_token_id, device=device)
    answer_rows = np.repeat(np.arange(len(rows), dtype=np.int64), lengths - starts)
    answer_slots = np.concatenate(
        [np.arange(*ends, dtype=np.int64) for ends in zip(starts, lengths, strict=True)]
    )
    return TokenBatch(
        input_ids,
        torch.as_tensor(lengths, device=device),
        torch.as_tensor(answer_rows, device=device),
        torch.as_tensor(answer_slots, device=device),
    )


def pad(
    rows: Sequence[TokenIds], fill: int = 0, *, device: torch.device | str | None = None
) -> torch.Tensor:
    """Pads on the right to the longest row.

    Args:
        rows: B rows of integers.
        fill: What stands behind the shorter ones.
        device: Where the table goes; None is the CPU.

    Returns:
        int64 `(B, S)`.

    Raises:
        ValueError: If there are no rows.
    """
    import torch

    if not len(rows):
        raise ValueError(_NO_ROWS)
    table = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return torch.as_tensor(table, device=device)


def pad_inputs(
    rows: Sequence[Mapping[str, Sequence[int]]],
    pad_token_id: int,
    *,
    device: torch.device | str | None = None,
) -> dict[str, torch.Tensor]:
    """Pads what a tokenizer makes of texts: ids, attention mask, token types, ...

    The tokenizer could do it, but a classifier looks for the end of a text by the pad token of its
    own configuration, which may be another one.

    Args:
        rows: B rows of the same keys, `input_ids` among them.
        pad_token_id: Fills `input_ids`; everything else is filled with 0.
        device: Where the tables go; None is the CPU.

    Returns:
        For each key int64 `(B, S)`.

    Raises:
        ValueError: If there are no rows.
    """
    if not rows:
        raise ValueError(_NO_ROWS)
    fills = {"input_ids": pad_token_id}
    return {
        key: pad([row[key] for row in rows], fills.get(key, 0), device=device) for key in rows[0]
    }


def micro_batches(members: Members, size: int | None) -> list[Members]:
    """Parts of a minibatch, in order, whose gradients are computed one after the other.

    Args:
        members: Numbers of its examples, or the examples.
        size: Examples of a part; the last may have fewer. None makes one part of all.
    """
    if size is None:
        return [members]
    return [members[start : start + size] for start in range(0, len(members), size)]  # type: ignore[misc]


def by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Splits rows into batches of similar length, so that little is padded.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of a batch; the last may have fewer.

    Yields:
        The numbers of a batch's rows, from the shortest to the longest row of all; rows of one
        length stay in their order.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
