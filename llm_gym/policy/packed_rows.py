"""Rows of different lengths one behind the other in a single row: one pass, and no padding.

A layer's matrix products do not ask which row a token is of. Attention does, and is computed row by
row, by the function that the model would have called; where answers share their beginning
(`llm_gym.policy.shared_rows`), answer by answer. Against a few padded passes
(`llm_gym.policy.buckets`) that saves what a pass costs beside its tokens, again for each, and what
attention computes that nobody may see; on devices that compute rows side by side it would save
nothing.
"""

from __future__ import annotations

import random
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llm_gym.language_models.architecture import context_length
from llm_gym.language_models.packing import pack
from llm_gym.policy.attention import attention_by
from llm_gym.policy.sampling import EpisodeBatch, tolerance
from llm_gym.policy.shared_rows import NOBODY, SharedRows, apart
from llm_gym.policy.windows import windows

if TYPE_CHECKING:
    from llm_gym.policy.trunk import Trunk

BY_ROWS = "llm_gym_by_rows"
_LEAST, _DEAR = 8, 2048  # tokens of a context: that it can be asked in; dear to go beyond


_CALL = 560_000
"""What a call of the attention function costs beside its scores: so many of them, over the width.

Measured on one thread, forward and backward (torch 2.13): about 0.17 ms, and 0.04 microseconds a
score at a width of 128.
"""


class _Call(NamedTuple):
    """Neighbours in a row, whose attention is computed together.

    Attributes:
        shared: Tokens that the row's answers share.
        first: Whether those are among the neighbours, in front.
        answers: Tokens of each answer among them.
    """

    shared: int
    first: bool
    answers: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens of the neighbours."""
        return self.first * self.shared + sum(self.answers)

    def mask(self, like: torch.Tensor) -> torch.Tensor | None:
        """What is added to scores, float `(1, 1, length, keys)`; `None` is plainly causal."""
        if self.first and not self.answers:
            return None
        sizes = torch.tensor([self.shared, *self.answers])
        owners = torch.arange(len(sizes)).repeat_interleave(sizes)
        places = torch.arange(len(owners))
        seen = ((owners == owners[:, None]) | (owners == 0)) & (places <= places[:, None])
        mask = torch.zeros(seen.shape, dtype=like.dtype).masked_fill_(~seen, -torch.inf)
        return mask[None, None, -self.length :].to(like.device)


def _calls(row: list[int], price: float) -> list[_Call]:
    """How attention over a row is computed: together as far as that is cheaper.

    Args:
        row: Tokens that are shared, and those of each answer.
        price: What a call costs beside its scores, in scores.
    """
    shared, *answers = row
    calls = [_Call(shared, True, ())]
    for own in answers:
        call = calls[-1]
        # Scores that nobody may see: of the answers for each other, of what is shared for them.
        in_vain = own * (call.first * shared + 2 * sum(call.answers))
        if in_vain <= price:
            calls[-1] = call._replace(answers=(*call.answers, own))
        else:
            calls.append(_Call(shared, False, (own,)))
    return calls


class _Attention:
    """Computes attention of rows that are packed, in the same way in each layer.

    Args:
        rows: Of each the tokens that are shared, and those of each answer.
    """

    def __init__(self, rows: list[list[int]]) -> None:
        self._rows = rows
        self._plan: list[tuple[_Call, torch.Tensor | None]] = []

    def plan(self, query: torch.Tensor) -> list[tuple[_Call, torch.Tensor | None]]:
        """The calls for queries `(1, heads, N, d)`, and their masks."""
        if not self._plan:
            price = _CALL / (query.shape[1] * query.shape[3])
            calls = [call for row in self._rows for call in _calls(row, price) if call.length]
            masks = _masks(calls, query)
            self._plan = [(call, masks[call]) for call in calls]
        return self._plan


def _masks(calls: list[_Call], like: torch.Tensor) -> dict[_Call, torch.Tensor | None]:
    """The mask of each call; those of single answers to a prompt are parts of the largest."""
    found: dict[_Call, torch.Tensor | None] = {}
    largest: dict[int, torch.Tensor | None] = {}
    for call in sorted(set(calls), key=lambda call: -call.length):
        if call.first or len(call.answers) > 1:
            found[call] = call.mask(like)
            continue
        if call.shared not in largest:
            largest[call.shared] = call.mask(like)
        whole = largest[call.shared]
        assert whole is not None
        found[call] = whole[:, :, : call.length, : call.shared + call.length]
    return found


_attention: ContextVar[_Attention] = ContextVar("attention")


def _by_rows(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each of the rows, `(1, heads, N, d)` to `(1, N, heads, d)`."""
    plan = _attention.get().plan(query)
    lengths = [call.length for call, _ in plan]
    # `split` has one backward pass for all parts; a slice each would fill `N` zeros for each.
    parts = zip(plan, *(each.split(lengths, 2) for each in (query, key, value)), strict=True)
    attended, shared = [], []
    for (call, mask), queries, *seen in parts:
        if call.first:
            shared = [each[:, :, : call.shared] for each in seen]
        else:
            seen = [torch.cat(both, dim=2) for both in zip(shared, seen, strict=True)]
        attended.append(sdpa_attention_forward(module, queries, *seen, mask, **kwargs)[0])
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

    def suits(self, batch: EpisodeBatch, trunk: Trunk) -> bool:
        """Whether the device gains by it, and nothing is known that forbids it."""
        if not self._passed or batch.input_ids.device.type != "cpu" or not trunk.takes_positions:
            return False
        if trunk.config._attn_implementation != "sdpa" or torch.is_autocast_enabled("cpu"):
            return False
        if any(getattr(m, "gradient_checkpointing", False) for m in trunk.decoder.modules()):
            return False  # layers run again in the backward pass, when the rows are forgotten
        context = context_length(trunk.config)
        if context is None:
            return True
        return context >= _LEAST and (context <= _DEAR or not _beyond(batch, context))

    def may_read(self, batch: EpisodeBatch, trunk: Trunk) -> bool:
        """Whether a batch may be read packed, and the device gains by it."""
        if not self.suits(batch, trunk):
            return False
        longest, context = batch.lengths_read.max(), context_length(trunk.config)
        beyond = _beyond(batch, context)
        window = max((w for w in windows(trunk.config) if w < longest), default=1)
        if (window, beyond) not in self._asked:
            self._asked.add((window, beyond))
            self._passed = _reads_alike(trunk, _question(trunk, window, context, beyond))
        return self._passed


def _beyond(batch: EpisodeBatch, context: int | None) -> bool:
    """Whether all rows together have more tokens than a context."""
    return context is not None and int(batch.lengths_read.sum()) > context


def read_packed(trunk: Trunk, rows: SharedRows) -> torch.Tensor:
    """Hidden states that the actions were chosen from, float `(A, H)`."""
    read = rows.owners != NOBODY
    lengths = read.sum(1)
    asked = (lengths.cumsum(0) - lengths)[rows.rows] + rows.slots
    told = _attention.set(_Attention(rows.spans))
    try:
        with trunk.only_at(asked, int(lengths.sum())), attention_by(trunk.config, BY_ROWS):
            hidden = trunk.decoder(
                input_ids=rows.input_ids[read][None],
                position_ids=rows.position_ids[read][None],
                use_cache=False,
            ).last_hidden_state[0]  # (N, H)
    finally:
        _attention.reset(told)
    return hidden[asked]


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
        packed = trunk.packed(apart(batch))
    except Exception:  # whatever an architecture raises that wants other rows
        return False
    return float((packed - plain).abs().max()) <= tolerance(plain, plain.dtype)
