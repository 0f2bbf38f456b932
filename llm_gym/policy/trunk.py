"""The transformer below the heads: a full pass, or a cached step that reads only what is new."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import RLock
from typing import Any

import torch
from torch import nn
from transformers.activations import NewGELUActivation
from transformers.modeling_layers import GradientCheckpointingLayer

from llm_gym.language_models.architecture import text_config
from llm_gym.policy.appending import Appending
from llm_gym.policy.attention import attention_by, explicit_masks, slides
from llm_gym.policy.buckets import Pass, in_order, passes, price_of_a_pass
from llm_gym.policy.computed_again import computed_again, worth_it
from llm_gym.policy.last_layer import LastLayer
from llm_gym.policy.packed_rows import PackedRows, read_packed
from llm_gym.policy.prefix_cache import PrefixCache, WritePlan
from llm_gym.policy.sampling import EpisodeBatch
from llm_gym.policy.shared_prompts import SharedPrompts
from llm_gym.policy.shared_rows import SharedRows, apart
from llm_gym.policy.watching import Watch


class Lock:
    """A re-entrant lock that can be copied and pickled: the copy is a lock of its own."""

    def __init__(self) -> None:
        self._lock = RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()


class Trunk:
    """A decoder without its language-model head, and what it has already read.

    Not an `nn.Module`: the policy owns the parameters. Sequences are padded on the right, where
    causal attention keeps padding from ever being seen; hence positions are plain column numbers
    for every architecture, and no attention mask is needed in a full pass.

    The cache is transparent. `last_hidden` compares what it is given with what it has read,
    row by row, and computes what is new of rows that grew, nothing for rows that are as they were,
    and the whole row otherwise. A change of the weights, of adapters put in later or of hooks
    forgets everything (`llm_gym.policy.watching`). Whether an architecture decodes rightly from
    this cache is asked in `llm_gym.policy.checks`.

    A pass always runs in evaluation mode, whatever mode somebody put a module into: dropout makes
    the ratio of new to old probabilities noise before anything was learnt. Passes of several
    threads take turns.

    Args:
        decoder: A Hugging Face decoder (`llm_gym.language_models.architecture.decoder_of`).
        use_cache: Recompute whole prefixes at every step if false.
        shared_prompts: See `llm_gym.policy.shared_prompts.SharedPrompts`.
    """

    def __init__(
        self, decoder: Any, *, use_cache: bool = True, shared_prompts: bool | str = "auto"
    ) -> None:
        self.decoder: nn.Module = decoder
        self.config: Any = text_config(decoder)
        self.use_cache = use_cache
        fuse_gelu(decoder)
        self._watch = Watch(decoder)
        self._lock = Lock()
        self._sharing, self.packing = SharedPrompts(shared_prompts), PackedRows()
        self._last_layer = LastLayer()
        self.takes_positions = "position_ids" in inspect.signature(decoder.forward).parameters
        self._appending = Appending(passed=self.takes_positions)
        self.forget()

    def forget(self) -> None:
        """Empties the cache."""
        with self._lock:
            self._cache: PrefixCache | None = None
            self._seen: tuple[Any, ...] = ()
            self._bits_seen: list[int] = []
            self._in_doubt = False
            self._ids = torch.empty(0, 0, dtype=torch.int64)
            self._lengths = torch.empty(0, dtype=torch.int64)
            self._hidden = torch.empty(0, 0)

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Forgets all rows but some: row `i` of what comes next is what row `rows[i]` was.

        What comes is compared with what was read as ever, so that a wrong word costs time alone.

        Args:
            rows: int64 `(n,)`, rows of what was read last.
        """
        with self._lock:
            if self._cache is None or int(rows.max()) >= self._cache.n_rows:
                return
            rows = rows.to(self._ids.device)
            self._cache.keep_rows(rows)
            self._ids, self._lengths = self._ids[rows], self._lengths[rows]
            self._hidden = self._hidden[rows]

    def doubt(self) -> None:
        """Has every bit of the weights compared before what was read is used again.

        Writes to `parameter.data` leave no trace; a comparison costs about as much as one token.
        """
        self._in_doubt = True

    def full(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor | None = None,
        visible: torch.Tensor | None = None,
        *,
        asked: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states after every token: int64 `(B, S)` to float `(B, S, H)`.

        Args:
            input_ids: int64 `(B, S)`, padded on the right.
            position_ids: int64 `(B, S)`, where they are no plain column numbers.
            visible: Bool `(B, S, S)`, which keys (last) each query may see, with `position_ids`;
                sliding windows come on top, by positions. `None` is all up to the query.
            asked: int64 `(K,)`, tokens counted row by row: the states of others need not be right.
                `None` is all.

        Raises:
            ValueError: If activation checkpointing is on and the architecture can only do it with
                dropout on.
        """
        with self._lock, self._evaluating(input_ids) as checkpoints:
            plain = input_ids.device.type == "cpu" and torch.is_autocast_enabled("cpu")
            # Checkpointed layers run again in the backward pass, with what is configured then.
            eager = plain and not checkpoints
            some = None if checkpoints else asked
            with (
                attention_by(self.config, "eager") if eager else nullcontext(),
                nullcontext() if some is None else self.only_at(some, input_ids.numel()),
            ):
                kwargs: dict[str, Any] = {}
                if position_ids is not None and visible is not None:
                    back = position_ids[:, :, None] - position_ids[:, None, :]
                    mask = self._explicit(visible, back)
                    kwargs = {"position_ids": position_ids, "attention_mask": mask}
                return self.decoder(
                    input_ids=input_ids, use_cache=False, **kwargs
                ).last_hidden_state

    def of_episodes(self, batch: EpisodeBatch) -> torch.Tensor:
        """Hidden states that the actions of whole episodes were chosen from, float `(A, H)`.

        What episodes share is read once where that pays and the architecture can. Rows of different
        lengths, of which one pass would read much padding, are read packed, or in a few passes.
        """
        hidden = self.of_shared_episodes(batch)
        if hidden is not None:
            return hidden
        price = price_of_a_pass(batch.input_ids.device)
        parts = passes(batch.lengths_read, batch.action_rows, batch.action_slots - 1, price)
        if len(parts) > 1:
            with self._lock:
                may_pack = self.packing.may_read(batch, self)
            if may_pack:
                return self.packed(apart(batch))
        states = [
            self._of_actions(batch.input_ids[part.rows, : part.length], part) for part in parts
        ]
        return in_order(states, parts)

    def packed(self, rows: SharedRows) -> torch.Tensor:
        """As `of_episodes`, all rows one behind the other (`llm_gym.policy.packed_rows`)."""
        with self._lock, self._evaluating(rows.input_ids):
            return read_packed(self, rows)

    def of_shared_episodes(self, batch: EpisodeBatch) -> torch.Tensor | None:
        """As `of_episodes`, where what episodes share is read once; `None` where nothing is shared.

        Raises:
            ValueError: The architecture cannot share, and `shared_prompts` is true.
        """
        with self._lock:
            shared, packed = self._sharing.rows_of(batch, self)
        if shared is None:
            return None
        if packed:
            return self.packed(shared)
        price = price_of_a_pass(batch.input_ids.device)
        parts, hidden = passes(shared.lengths, shared.rows, shared.slots, price), []
        for part in parts:
            some = shared.some(part.rows, part.length)
            layout = some.position_ids, some.visible
            hidden.append(self._of_actions(some.input_ids, part, layout))
        return in_order(hidden, parts)

    def _of_actions(
        self, input_ids: torch.Tensor, part: Pass, layout: tuple[torch.Tensor, ...] = ()
    ) -> torch.Tensor:
        """States that a pass's actions were chosen from, float `(a, H)`.

        Args:
            input_ids: int64 `(B, S)`, what is read.
            part: Where the actions are.
            layout: `position_ids` and `visible`, as for `full`; nothing in plain rows.
        """
        asked = part.action_rows * input_ids.shape[1] + part.slots
        return self.full(input_ids, *layout, asked=asked).flatten(0, 1)[asked]

    def only_at(self, asked: torch.Tensor, n_tokens: int) -> AbstractContextManager[None]:
        """Passes in the block need be right at some tokens alone: see `LastLayer.only_at`."""
        return self._last_layer.only_at(asked, n_tokens, self)

    @property
    def modules(self) -> list[nn.Module]:
        """The decoder's, whatever was put into it."""
        return self._watch.modules

    @property
    def spares_memory(self) -> bool:
        """Whether activations for the backward pass are most of what is held beside weights."""
        return torch.is_grad_enabled() and bool(worth_it(self._watch))

    @contextmanager
    def _evaluating(self, input_ids: torch.Tensor) -> Iterator[bool]:
        """Switches off dropout, and on, where gradients are recorded, activation checkpointing.

        A layer checkpoints only in training mode. It is put there alone, without what is inside
        it, and its own dropout is set to zero. Other layers may keep less for the backward pass
        (`llm_gym.policy.computed_again`). Yields whether there are layers that checkpoint.
        """
        if input_ids.shape[1] > 1:  # for a single token, `_check_weights` has looked
            self._watch.look()
        for module in self._watch.modules:
            if module.training:
                module.training = False
        layers = self._checkpointed_layers() if torch.is_grad_enabled() else []
        for layer in layers:
            for name, value in vars(layer).items():
                if "drop" in name and isinstance(value, float):
                    setattr(layer, name, 0.0)
            layer.training = True
        lightened = worth_it(self._watch) if torch.is_grad_enabled() and not layers else []
        try:
            with computed_again(lightened):
                yield bool(layers)
        finally:
            for layer in layers:
                layer.training = False

    def _checkpointed_layers(self) -> list[nn.Module]:
        asked = [m for m in self._watch.modules if getattr(m, "gradient_checkpointing", False)]
        layers = [m for m in asked if isinstance(m, GradientCheckpointingLayer)]
        if asked and not layers:
            raise ValueError(
                f"activation checkpointing of {type(self.decoder).__name__} works only with its "
                "dropout on, which a policy never has; call gradient_checkpointing_disable()"
            )
        return layers

    def last_hidden(
        self, input_ids: torch.Tensor, lengths: torch.Tensor, *, keep_others: bool = False
    ) -> torch.Tensor:
        """Hidden states after the last token of each row.

        Args:
            input_ids: int64 `(N, L)`, padded on the right.
            lengths: int64 `(N,)`, the number of tokens of each row, at least 1.
            keep_others: Leave the cache to its rows if it holds another number of them; for
                questions asked in passing, such as the value of one final observation.

        Returns:
            float `(N, H)`. Where gradients are recorded, the cache is neither used nor changed.
        """
        with self._lock:
            return self._last_hidden(input_ids, lengths, keep_others)

    def _last_hidden(
        self, input_ids: torch.Tensor, lengths: torch.Tensor, keep_others: bool
    ) -> torch.Tensor:
        n_rows = len(input_ids)
        in_passing = keep_others and self._cache is not None and n_rows != self._cache.n_rows
        if not self.use_cache or torch.is_grad_enabled() or in_passing:
            hidden = self.full(input_ids[:, : int(lengths.max())])
            return hidden[torch.arange(n_rows, device=hidden.device), lengths - 1]
        self._check_weights()
        if self._cache is None or input_ids.shape != self._ids.shape:
            self._allocate(input_ids)
        columns = torch.arange(input_ids.shape[1], device=input_ids.device)
        unread = columns >= self._lengths[:, None]  # (N, L)
        continues = ((input_ids == self._ids) | unread).all(1)
        grown = continues & (lengths == self._lengths + 1) & (self._lengths > 0)
        unchanged = continues & (lengths == self._lengths)
        others = ~(grown | unchanged)
        longer = None
        if others.any():
            longer = self._longer(lengths, others & continues)
            started = others if longer is None else others & ~longer
            if started.any():
                self._read_whole(input_ids, lengths, started.nonzero().squeeze(1))
        if grown.any():
            self._read_one_more(input_ids, lengths, grown)
        if longer is not None:
            self._read_more(input_ids, lengths, longer.nonzero().squeeze(1))
        self._ids, self._lengths = input_ids.clone(), lengths.clone()
        return self._hidden.clone()

    def _check_weights(self) -> None:
        seen = self._watch.look()
        if seen != self._seen or (self._in_doubt and self._watch.bits() != self._bits_seen):
            self.forget()
            self._seen, self._bits_seen = seen, self._watch.bits()
        self._in_doubt = False

    def _allocate(self, input_ids: torch.Tensor) -> None:
        n_rows, capacity = input_ids.shape
        self._cache = PrefixCache(self.config.num_hidden_layers, n_rows, capacity)
        self._ids = torch.zeros_like(input_ids)
        self._lengths = input_ids.new_zeros(n_rows)
        self._hidden = torch.empty(n_rows, 0, device=input_ids.device)

    def _read_whole(
        self, input_ids: torch.Tensor, lengths: torch.Tensor, rows: torch.Tensor
    ) -> None:
        """Reads rows from their beginning; those of equal contents once, for all of them."""
        assert self._cache is not None
        n_rows, longest = len(input_ids), int(lengths[rows].max())
        contents = torch.cat([lengths[rows, None], input_ids[rows, :longest]], dim=1)
        contents[:, 1:] *= torch.arange(longest, device=rows.device) < lengths[rows, None]
        distinct, sources = contents.unique(dim=0, return_inverse=True)
        if len(distinct) == len(rows):  # sorted; better in their own order
            distinct, sources = contents, torch.arange(len(rows), device=rows.device)
        everything = len(distinct) == n_rows
        plan = WritePlan(None if everything else rows, 0, None, longest, sources)
        self._cache.prepare(plan)
        hidden = self._forward(distinct[:, 1:])  # (d, longest, H)
        last = hidden[torch.arange(len(distinct), device=rows.device), distinct[:, 0] - 1]
        if self._hidden.shape[1] == 0:
            self._hidden = last.new_zeros(n_rows, last.shape[1])
        self._hidden[rows] = last[sources]

    def _read_one_more(
        self, input_ids: torch.Tensor, lengths: torch.Tensor, grown: torch.Tensor
    ) -> None:
        """Feeds one token to every row; what this gives for rows that did not grow is dropped.

        Those rows are fed their own last token again, in its own slot, so their keys stay right.
        """
        assert self._cache is not None
        last = lengths - 1
        tokens = input_ids.gather(1, last[:, None])  # (N, 1)
        length = int(lengths.max())
        if int(lengths.min()) == length:
            self._cache.prepare(WritePlan(None, length - 1, None, length))
            hidden = self._forward(tokens, positions=last[:, None])[:, 0]
        else:
            self._cache.prepare(WritePlan(None, None, last, length))
            mask = self._ragged_mask(last, length)
            hidden = self._forward(tokens, positions=last[:, None], attention_mask=mask)[:, 0]
        self._hidden = hidden if bool(grown.all()) else hidden.where(grown[:, None], self._hidden)

    def _longer(self, lengths: torch.Tensor, rows: torch.Tensor) -> torch.Tensor | None:
        """Which of some rows, bool `(N,)`, have grown by several tokens, as by a world's answer.

        All are fed as many; a row that has fewer than those begins anew. `None` if there are none.
        """
        longer = rows & (self._lengths > 0) & (lengths > self._lengths)
        if not self._appending.passed or not longer.any():
            return None
        return longer & (lengths >= (lengths - self._lengths)[longer].max())

    def _read_more(
        self, input_ids: torch.Tensor, lengths: torch.Tensor, rows: torch.Tensor
    ) -> None:
        """Feeds the last tokens of some rows, as many of each as the longest growth has.

        Of a row that grew by fewer, some are fed again, in their own slots.
        """
        assert self._cache is not None
        n_tokens = int((lengths - self._lengths)[rows].max())
        length = int(lengths[rows].max())
        columns = torch.arange(length, device=rows.device)
        slots = lengths[rows, None] - n_tokens + columns[:n_tokens]  # (b, K)
        ids = input_ids[rows, :length]
        seen = columns <= slots[:, :, None]  # (b, K, length)
        mask = self._explicit(seen, slots[:, :, None] - columns)
        self._cache.prepare(WritePlan(rows, None, slots, length))
        hidden = self._forward(ids.gather(1, slots), positions=slots, attention_mask=mask)
        if self._appending.agrees(self, ids, slots, hidden):
            self._hidden[rows] = hidden[:, -1]
        else:
            self._read_whole(input_ids, lengths, rows)

    def _forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        attention_mask: Any = None,
    ) -> torch.Tensor:
        kwargs: dict[str, Any] = {"attention_mask": attention_mask}
        if positions is not None and self.takes_positions:
            kwargs["position_ids"] = positions
        with self._evaluating(tokens):
            return self.decoder(
                input_ids=tokens, past_key_values=self._cache, use_cache=True, **kwargs
            ).last_hidden_state

    def _ragged_mask(self, positions: torch.Tensor, length: int) -> Any:
        """What each row's single query may see: its own slots up to its own position.

        A mask `(N, length)` serves models without a sliding window (and ALiBi needs that form);
        with one, the window must follow each row's own position, which only an explicit
        `(N, 1, 1, length)` mask can say.
        """
        slots = torch.arange(length, device=positions.device)
        seen = slots <= positions[:, None]  # (N, length)
        if not slides(self.config):
            return seen.long()
        return self._explicit(seen[:, None], (positions[:, None] - slots)[:, None])

    def _explicit(self, allowed: torch.Tensor, back: torch.Tensor) -> Any:
        dtype = next(self.decoder.parameters()).dtype
        return explicit_masks(self.config, dtype, allowed, back)


def fuse_gelu(module: nn.Module) -> None:
    """Replaces GPT-2's spelled-out GELU by PyTorch's fused one, which computes the same function.

    `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` as eight operations keeps eight
    intermediate tensors for the backward pass and costs a tenth of a decoding step.
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(parent, name, nn.GELU(approximate="tanh"))
