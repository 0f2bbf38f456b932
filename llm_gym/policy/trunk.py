"""The transformer below the heads: a full pass, or a cached step that reads only what is new.

The key/value cache lets rows stand at different lengths. Slot `j` of a row holds the keys and
values of that row's token `j`: nothing is shifted when one row starts anew while its neighbours go
on, and nothing is copied when a token is added.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers.activations import NewGELUActivation
from transformers.cache_utils import Cache, CacheLayerMixin

_CACHEABLE = {"full_attention", "sliding_attention"}


class _OptimizerSteps:
    """Counts the steps of every optimizer: fused ones change weights without raising versions."""

    def __init__(self) -> None:
        self.count = 0
        register_optimizer_step_post_hook(self._step)

    def _step(self, *_: Any) -> None:
        self.count += 1


_OPTIMIZER_STEPS = _OptimizerSteps()


class Trunk:
    """A decoder without its language-model head, and what it has already read.

    Not an `nn.Module`: the policy owns the parameters. Sequences are padded on the right, where
    causal attention keeps padding from ever being seen; hence positions are plain column numbers
    for every architecture, and no attention mask is needed in a full pass.

    The cache is transparent. `last_hidden` compares what it is given with what it has read,
    row by row, and computes one token for rows that grew by one, nothing for rows that are as they
    were, and the whole row otherwise. A change of the weights forgets everything.

    Args:
        decoder: A Hugging Face decoder, e.g. `model.base_model`.
        use_cache: Recompute whole prefixes at every step if false.

    Raises:
        ValueError: If the architecture keeps a state that the cache cannot hold, and `use_cache`.
    """

    def __init__(self, decoder: Any, *, use_cache: bool = True) -> None:
        self.decoder: nn.Module = decoder
        self.config: Any = decoder.config
        layer_types = set(getattr(self.config, "layer_types", None) or ())
        if use_cache and not layer_types <= _CACHEABLE:
            raise ValueError(
                f"model of type {self.config.model_type!r} has layers of types "
                f"{sorted(layer_types - _CACHEABLE)}, which the prefix cache does not support; "
                "pass prefix_cache=False to recompute the prefix at every token"
            )
        self.use_cache = use_cache
        self._parameters = list(decoder.parameters())
        fuse_gelu(decoder)
        remove_dropout(decoder)
        self.takes_positions = "position_ids" in inspect.signature(decoder.forward).parameters
        self.forget()

    def forget(self) -> None:
        """Empties the cache."""
        self._cache: PrefixCache | None = None
        self._weights_seen: tuple[Any, ...] = ()
        self._ids = torch.empty(0, 0, dtype=torch.int64)
        self._lengths = torch.empty(0, dtype=torch.int64)
        self._hidden = torch.empty(0, 0)

    def full(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Hidden states after every token: int64 `(B, S)` to float `(B, S, H)`."""
        plain = input_ids.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        with _plain_attention(self.config) if plain else nullcontext():
            return self.decoder(input_ids=input_ids, use_cache=False).last_hidden_state

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
        started = ~(grown | unchanged)
        if started.any():
            self._read_whole(input_ids, lengths, started.nonzero().squeeze(1))
        if grown.any():
            self._read_one_more(input_ids, lengths, grown)
        self._ids, self._lengths = input_ids.clone(), lengths.clone()
        return self._hidden.clone()

    def _check_weights(self) -> None:
        # In-place updates raise the version, replaced storage has another address.
        weights = (
            _OPTIMIZER_STEPS.count,
            *((p.data_ptr(), p._version) for p in self._parameters),
        )
        if weights != self._weights_seen:
            self.forget()
            self._weights_seen = weights

    def _allocate(self, input_ids: torch.Tensor) -> None:
        n_rows, capacity = input_ids.shape
        self._cache = PrefixCache(self.config.num_hidden_layers, n_rows, capacity)
        self._ids = torch.zeros_like(input_ids)
        self._lengths = input_ids.new_zeros(n_rows)
        self._hidden = torch.empty(n_rows, 0, device=input_ids.device)

    def _read_whole(
        self, input_ids: torch.Tensor, lengths: torch.Tensor, rows: torch.Tensor
    ) -> None:
        assert self._cache is not None
        n_rows, longest = len(input_ids), int(lengths[rows].max())
        everything = len(rows) == n_rows
        self._cache.prepare(WritePlan(None if everything else rows, 0, None, longest))
        hidden = self._forward(input_ids[rows, :longest])  # (b, longest, H)
        last = hidden[torch.arange(len(rows), device=rows.device), lengths[rows] - 1]
        if self._hidden.shape[1] == 0:
            self._hidden = last.new_zeros(n_rows, last.shape[1])
        self._hidden[rows] = last

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

    def _forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        attention_mask: Any = None,
    ) -> torch.Tensor:
        kwargs: dict[str, Any] = {"attention_mask": attention_mask}
        if positions is not None and self.takes_positions:
            kwargs["position_ids"] = positions
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
        window: int | None = getattr(self.config, "sliding_window", None)
        layer_types = getattr(self.config, "layer_types", None)
        if window is None or (layer_types is not None and "sliding_attention" not in layer_types):
            return seen.long()
        near = seen & (slots > positions[:, None] - window)
        full, sliding = self._explicit(seen), self._explicit(near)
        if layer_types is None:
            return sliding
        return {"full_attention": full, "sliding_attention": sliding}

    def _explicit(self, allowed: torch.Tensor) -> torch.Tensor:
        """Bool `(N, length)` as the 4-dimensional mask the attention implementation expects."""
        mask = allowed[:, None, None, :]
        if self.config._attn_implementation != "eager":
            return mask
        dtype = self._parameters[0].dtype
        zero = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return zero.masked_fill(~mask, torch.finfo(dtype).min)


@dataclass(frozen=True)
class WritePlan:
    """Where the forward pass that follows writes, and what it may read.

    Attributes:
        rows: int64 `(b,)`: the cache rows written to, or `None` for all of them in order.
        start: First slot written, the same for all rows, or `None` if rows differ.
        positions: int64 `(N,)`: the slot each row's single token goes to, where `start` is
            `None`.
        length: Number of slots that attention reads.
    """

    rows: torch.Tensor | None
    start: int | None
    positions: torch.Tensor | None
    length: int


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
        if plan.start is None:  # one token a row, each in its own slot
            rows = torch.arange(self.n_rows, device=key_states.device)
            self.keys[rows, :, plan.positions] = key_states[:, :, 0]
            self.values[rows, :, plan.positions] = value_states[:, :, 0]
            return self.keys[:, :, : plan.length], self.values[:, :, : plan.length]
        if plan.rows is None:
            self.keys[:, :, plan.start : plan.length] = key_states
            self.values[:, :, plan.start : plan.length] = value_states
            return self.keys[:, :, : plan.length], self.values[:, :, : plan.length]
        self.keys[plan.rows, :, : plan.length] = key_states
        self.values[plan.rows, :, : plan.length] = value_states
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.plan.length, 0

    def get_seq_length(self) -> int:
        """Tokens before the query; models derive the query's offset in the mask from it."""
        return self.plan.length - 1 if self.plan.start is None else self.plan.start

    def get_max_length(self) -> int:
        return self.capacity


class PrefixCache(Cache):
    """The layers' keys and values, preallocated for `n_rows` rows of `capacity` tokens."""

    def __init__(self, n_layers: int, n_rows: int, capacity: int) -> None:
        super().__init__(layers=[_Layer(n_rows, capacity) for _ in range(n_layers)])
        self.n_rows, self.capacity = n_rows, capacity

    def prepare(self, plan: WritePlan) -> None:
        """Sets what the next forward pass writes and reads."""
        for layer in self.layers:
            layer.plan = plan


@contextmanager
def _plain_attention(config: Any) -> Iterator[None]:
    """Attention by matrix products and a softmax, as the model's own eager implementation.

    On a CPU in bfloat16 PyTorch's fused attention is no help: forward and backward of 8 x 4 heads
    over 79 tokens took 12.6 ms against 3.3 ms by plain products (torch 2.13, one thread).
    """
    before = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = before


def fuse_gelu(module: nn.Module) -> None:
    """Replaces GPT-2's spelled-out GELU by PyTorch's fused one, which computes the same function.

    `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` as eight operations keeps eight
    intermediate tensors for the backward pass and costs a tenth of a decoding step.
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(parent, name, nn.GELU(approximate="tanh"))


def remove_dropout(module: nn.Module) -> None:
    """Replaces dropout layers by identities: a policy never drops out, in no mode.

    Otherwise the ratio of new to old probabilities is noise before anything was learnt.
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout):
                setattr(parent, name, _NoDropout())


class _NoDropout(nn.Identity):
    """An identity with the attribute that attention layers ask their dropout for."""

    p = 0.0
