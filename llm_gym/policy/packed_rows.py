"""Rows of different lengths one behind the other in a single row: one pass, and no padding.

A layer's matrix products do not ask which row a token is of. Attention does, and is computed row by
row, by the function that the model would have called. Against a few padded passes
(`llm_gym.policy.buckets`) that saves what a pass costs beside its tokens, again for each; on
devices that compute rows side by side it would save nothing.
"""

from __future__ import annotations

import random
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llm_gym.language_models.architecture import context_length
from llm_gym.language_models.packing import pack
from llm_gym.policy.attention import attention_by
from llm_gym.policy.sampling import EpisodeBatch, tolerance
from llm_gym.policy.windows import windows

if TYPE_CHECKING:
    from llm_gym.policy.trunk import Trunk

BY_ROWS = "llm_gym_by_rows"
_LEAST, _DEAR = 8, 2048  # tokens of a context: that it can be asked in; dear to go beyond
_lengths: ContextVar[list[int]] = ContextVar("lengths")


def _by_rows(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each of the rows, `(1, heads, N, d)` to `(1, N, heads, d)`."""
    # `split` has one backward pass for all parts; a slice each would fill `N` zeros for each.
    parts = zip(*(each.split(_lengths.get(), 2) for each in (query, key, value)), strict=True)
    attended = [sdpa_attention_forward(module, *part, None, **kwargs)[0] for part in parts]
    return torch.cat(attended, dim=1), None


AttentionInterface.register(BY_ROWS, _by_rows)


class PackedRows:
    """Reads batches packed, where that is right.

    An architecture has to take positions as they are given, call the attention that its
    configuration names, and mix tokens nowhere else: recurrent layers and convolutions run on from
    one row into the next, windows need a mask. The model is asked when there is first something to
    pack: a small batch is read in both ways, beyond every window of its configuration, and beyond
    its context, that a batch outgrows. Where packing is wrong, rows are padded; what is read is the
    same.
    """

    def __init__(self) -> None:
        self._passed = True
        self._asked: set[tuple[int, bool]] = set()

    def may_read(self, batch: EpisodeBatch, trunk: Trunk) -> bool:
        """Whether a batch may be read packed, and the device gains by it."""
        if not self._passed or batch.input_ids.device.type != "cpu" or not trunk.takes_positions:
            return False
        if trunk.config._attn_implementation != "sdpa" or torch.is_autocast_enabled("cpu"):
            return False
        if any(getattr(m, "gradient_checkpointing", False) for m in trunk.decoder.modules()):
            return False  # layers run again in the backward pass, when the rows are forgotten
        lengths, context = batch.lengths_read, context_length(trunk.config)
        beyond = context is not None and int(lengths.sum()) > context
        if context is not None and (context < _LEAST or (beyond and context > _DEAR)):
            return False
        window = max((w for w in windows(trunk.config) if w < lengths.max()), default=1)
        if (window, beyond) not in self._asked:
            self._asked.add((window, beyond))
            self._passed = _reads_alike(trunk, _question(trunk, window, context, beyond))
        return self._passed


def read_packed(trunk: Trunk, batch: EpisodeBatch) -> torch.Tensor:
    """Hidden states that the actions were chosen from, float `(A, H)`."""
    device, lengths = batch.input_ids.device, torch.from_numpy(batch.lengths_read)
    read = torch.arange(batch.input_ids.shape[1]) < lengths[:, None]  # (B, S)
    ids = batch.input_ids[read.to(device)]
    positions = read.cumsum(1)[read].to(device) - 1
    told = _lengths.set(lengths[lengths > 0].tolist())
    try:
        with attention_by(trunk.config, BY_ROWS):
            hidden = trunk.decoder(
                input_ids=ids[None], position_ids=positions[None], use_cache=False
            ).last_hidden_state[0]  # (N, H)
    finally:
        _lengths.reset(told)
    before = (lengths.cumsum(0) - lengths).to(device)
    return hidden[before[batch.action_rows] + batch.action_slots - 1]


def _question(trunk: Trunk, window: int, context: int | None, beyond: bool) -> EpisodeBatch:
    """Rows of different lengths; some outgrow a window, all together the context."""
    rng = random.Random(0)  # noqa: S311
    longest = window + 3 if context is None else min(window + 3, context)
    sizes = [longest, 2, longest - 1, 3]
    while beyond and context is not None and sum(sizes) - len(sizes) <= context:
        sizes.append(max(longest, context // 4))
    rows = [[rng.randrange(trunk.config.vocab_size) for _ in range(n)] for n in sizes]
    device = next(trunk.decoder.parameters()).device
    return EpisodeBatch.of(pack(rows, [1] * len(rows), device=device))


@torch.no_grad()
def _reads_alike(trunk: Trunk, batch: EpisodeBatch) -> bool:
    plain = trunk.full(batch.context)[batch.action_rows, batch.action_slots - 1]
    try:
        packed = trunk.packed(batch)
    except Exception:  # whatever an architecture raises that wants other rows
        return False
    return float((packed - plain).abs().max()) <= tolerance(plain, plain.dtype)
