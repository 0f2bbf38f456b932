"""Likelihoods of many tokens of a large vocabulary, some rows at a time.

`A` tokens of a vocabulary of `V` have `A x V` logits, whose gradient is as large again: 311 MB each
in float32 for 512 tokens of 152 thousand. Nobody needs them all at once: a row's log-probability
and entropy hang on that row's hidden state alone. So rows are taken in chunks, whose logits are
gone before those of the next chunk are computed, in the forward pass and in the backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from llm_gym.language_models.architecture import decoder_of, vocabulary_size
from llm_gym.policy.sampling import (
    EpisodeBatch,
    LanguageModelHead,
    log_prob_and_entropy,
    token_log_probs,
    unpack_support,
    widened,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llm_gym.language_models.packing import TokenBatch
    from llm_gym.policy.trunk import Trunk

WHOLE_BYTES = 128 * 2**20
"""Logits of no more bytes than this are computed at once: chunks would save next to nothing.

The gradient of the weights, 113 MB for 49 thousand tokens and a width of 576, is in memory beside
the chunks; without them it comes after the logits.
"""

CHUNK_BYTES = 64 * 2**20
"""Most bytes of the logits of a chunk.

Smaller chunks are slow: each reads the head's weights anew, and adds to a gradient of their size.
`docs/models.md` has what chunks cost, and what they save.
"""

READ_BYTES = 32 * 2**20
"""Both of them where no gradient is asked for: no chunk is computed twice.

Against all rows at once, 512 rows cost nothing more for a vocabulary of 49 thousand, and half as
much again for one of 152 thousand.
"""

_HEADS: WeakKeyDictionary[PreTrainedModel, LanguageModelHead] = WeakKeyDictionary()


def rows_at_once(n_rows: int, n_tokens: int, *, learns: bool = True) -> int:
    """How many rows of logits are computed at once.

    Args:
        n_rows: A, the rows that there are.
        n_tokens: V, the size of the vocabulary.
        learns: Whether gradients are recorded.

    Returns:
        `n_rows` where their logits in float32 take `WHOLE_BYTES` at most, else the rows of the
        fewest chunks of equal size that take `CHUNK_BYTES` each at most; without gradients both
        are `READ_BYTES`.
    """
    whole, each = (WHOLE_BYTES, CHUNK_BYTES) if learns else (READ_BYTES, READ_BYTES)
    if 4 * n_rows * n_tokens <= whole:
        return n_rows
    fitting = max(1, each // (4 * n_tokens))
    n_chunks = -(-n_rows // fitting)
    return -(-n_rows // n_chunks)


def autocast_dtype(mixed_precision: str) -> torch.dtype | None:
    """Type of matrix products under a policy's `mixed_precision`; `None` is that of the weights."""
    return torch.bfloat16 if mixed_precision == "bf16" else None


def autocast(device: torch.device, mixed_precision: str) -> torch.autocast:
    """The context of a policy's `mixed_precision`, `"no"` or `"bf16"`."""
    dtype = autocast_dtype(mixed_precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def policy_logits(
    logits: torch.Tensor, temperature: float, support: torch.Tensor | None
) -> torch.Tensor:
    """Logits of a policy that divides by a temperature and may choose among some tokens only.

    Args:
        logits: float `(A, V)`, the model's own.
        temperature: Divides them.
        support: uint8 `(A, ceil(V / 8))`, the tokens to choose from, packed; `None` is all.

    Returns:
        float `(A, V)`, `-inf` where cut.
    """
    if temperature != 1.0:
        logits = logits / temperature
    if support is None:
        return logits
    return logits.masked_fill(~unpack_support(support, logits.shape[-1]), -torch.inf)


def log_prob_and_entropy_of_hidden(
    hidden: torch.Tensor,
    head: LanguageModelHead,
    actions: torch.Tensor,
    *,
    temperature: float = 1.0,
    support: torch.Tensor | None = None,
    autocast_dtype: torch.dtype | None = None,
    rows_per_chunk: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of the actions, and entropy, that never hold all logits at once.

    Equal to `llm_gym.policy.sampling.log_prob_and_entropy` of the logits, gradients too: those in
    the hidden states, and those in the head's weights where they are learnt. Then the backward pass
    computes each chunk's logits again. Where the head is frozen, the gradients of log-probabilities
    in hidden states, `(A, H)`, are computed with them, and logits again only for an entropy bonus.

    Args:
        hidden: float `(A, H)`.
        head: Makes logits of hidden states.
        actions: int64 `(A,)`.
        temperature: Divides the logits.
        support: uint8 `(A, ceil(V / 8))`, the tokens to choose from, packed; `None` is all.
        autocast_dtype: Type of the head's matrix products, as `torch.autocast` has it; `None` is
            that of its weights.
        rows_per_chunk: Rows whose logits are computed at once; `None` is as `rows_at_once` says.

    Returns:
        Two float tensors `(A,)`, differentiable once. Entropy is in nats.
    """
    rows = _Rows(head, actions, temperature, support, autocast_dtype)
    size = rows_per_chunk or rows_at_once(
        len(hidden), head.n_tokens, learns=torch.is_grad_enabled()
    )
    if size >= len(hidden):
        return rows.likelihood(hidden, slice(None))
    chunks = [slice(start, start + size) for start in range(0, len(hidden), size)]
    linear = head.plain_linear
    if linear is not None:
        log_prob, entropy = _Chunked.apply(hidden, linear.weight, linear.bias, rows, chunks)
        return log_prob, entropy
    parts = [
        checkpoint(
            rows.likelihood, hidden[chunk], chunk, use_reentrant=False, preserve_rng_state=False
        )
        for chunk in chunks
    ]
    log_probs, entropies = zip(*parts, strict=True)
    return torch.cat(log_probs), torch.cat(entropies)


def answer_token_log_probs(model: PreTrainedModel, batch: TokenBatch) -> torch.Tensor:
    """Log-probabilities of the tokens of a batch's answers, with gradients.

    A model's own pass makes logits of prompts and padding too. Where they would take more than
    `WHOLE_BYTES`, hidden states are taken from its decoder, and only answers have logits, in
    chunks.

    Args:
        model: A causal language model.
        batch: Rows of which every answer token has a token before it.

    Returns:
        float `(A,)` in nats, float32 or wider.

    Raises:
        ValueError: There are that many logits, and the model's head needs more than hidden states.
    """
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    places = batch.answer_rows, batch.answer_slots - 1
    if 4 * batch.input_ids.numel() * vocabulary_size(model) <= WHOLE_BYTES:
        logits = model(**inputs, use_cache=False).logits  # (B, S, V)
        return token_log_probs(widened(logits[places]), batch.answer_ids)
    hidden = decoder_of(model)(**inputs, use_cache=False).last_hidden_state  # (B, S, H)
    return log_prob_and_entropy_of_hidden(hidden[places], head_of(model), batch.answer_ids)[0]


def shared_token_log_probs(
    model: PreTrainedModel, batch: TokenBatch, trunk: Trunk
) -> torch.Tensor | None:
    """As `answer_token_log_probs`, where what rows share is read once.

    Args:
        model: A causal language model.
        batch: Rows of which every answer token has a token before it.
        trunk: Of the model's decoder.

    Returns:
        float `(A,)` in nats; `None` where sharing is wrong or does not pay.

    Raises:
        ValueError: The architecture cannot share, and the trunk was told to; or the model's head
            needs more than hidden states.
    """
    head = head_of(model)
    hidden = trunk.of_shared_episodes(EpisodeBatch.of(batch))
    if hidden is None:
        return None
    if 4 * len(hidden) * head.n_tokens <= WHOLE_BYTES:
        return token_log_probs(widened(head(hidden)), batch.answer_ids)
    return log_prob_and_entropy_of_hidden(hidden, head, batch.answer_ids)[0]


def head_of(model: PreTrainedModel) -> LanguageModelHead:
    """A model's head, held against the model's own logits once, not at every step."""
    head = _HEADS.get(model)
    if head is None or head.linear is not model.get_output_embeddings():
        head = _HEADS[model] = LanguageModelHead(model)
    return head


class _Rows(NamedTuple):
    """What the likelihoods of `A` rows hang on beside their hidden states."""

    head: LanguageModelHead
    actions: torch.Tensor
    temperature: float
    support: torch.Tensor | None
    autocast_dtype: torch.dtype | None

    def likelihood(self, hidden: torch.Tensor, chunk: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability and entropy of a chunk from its hidden states `(rows, H)`."""
        dtype, enabled = self.autocast_dtype, self.autocast_dtype is not None
        with torch.autocast(hidden.device.type, dtype=dtype, enabled=enabled):
            logits = self.head(hidden)  # (rows, V)
        return self.of_logits(logits, chunk)

    def of_logits(self, logits: torch.Tensor, chunk: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """The same from the model's logits `(rows, V)`."""
        support = None if self.support is None else self.support[chunk]
        logits = policy_logits(logits, self.temperature, support)
        return log_prob_and_entropy(logits, self.actions[chunk])

    def product_dtype(self, hidden: torch.Tensor) -> torch.dtype:
        """Type of the head's matrix product; autocast leaves float64 alone."""
        if self.autocast_dtype is None or hidden.dtype == torch.float64:
            return hidden.dtype
        return self.autocast_dtype


class _Chunked(torch.autograd.Function):
    """Chunks under a linear layer, whose gradients are summed in place.

    Autograd would make a new `(V, H)` of each chunk's share in the gradient of the weights.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        rows: _Rows,
        chunks: list[slice],
    ) -> Any:
        dtype = rows.product_dtype(hidden)
        inputs, linear = hidden.to(dtype), _cast(weight, bias, dtype)
        of_hidden, *of_head = ctx.needs_input_grad[:3]
        gradients = torch.empty_like(hidden) if of_hidden and not any(of_head) else None
        log_prob, entropy = (
            torch.empty(len(hidden), dtype=_result_dtype(dtype), device=hidden.device)
            for _ in range(2)
        )
        for chunk in chunks:
            raw = F.linear(inputs[chunk], *linear)  # (rows, V)
            if gradients is None:
                log_prob[chunk], entropy[chunk] = rows.of_logits(rows.head.finish(raw), chunk)
                continue
            ones = torch.ones_like(log_prob[chunk])
            values, gradient = _differentiated(rows, raw, chunk, ones, torch.zeros_like(ones))
            log_prob[chunk], entropy[chunk] = values
            gradients[chunk] = gradient @ linear[0]
        ctx.save_for_backward(hidden, weight, bias, gradients)
        ctx.rows, ctx.chunks = rows, chunks
        return log_prob, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        hidden, weight, bias, gradients = ctx.saved_tensors
        grad_log_prob, grad_entropy = grads
        sums = _Sums(hidden, weight, bias, ctx.needs_input_grad)
        if gradients is not None:
            assert sums.hidden is not None
            sums.hidden = gradients * grad_log_prob[:, None].to(gradients.dtype)
            if not grad_entropy.any():
                return *sums.results(), None, None
            grad_log_prob = torch.zeros_like(grad_log_prob)
        dtype = ctx.rows.product_dtype(hidden)
        inputs, linear = hidden.to(dtype), _cast(weight, bias, dtype)
        for chunk in ctx.chunks:
            raw = F.linear(inputs[chunk], *linear)  # (rows, V)
            _, gradient = _differentiated(
                ctx.rows, raw, chunk, grad_log_prob[chunk], grad_entropy[chunk]
            )
            sums.add(gradient, inputs[chunk], linear[0], chunk)
        return *sums.results(), None, None


class _Sums:
    """Gradients of a linear layer and of what goes into it, chunk by chunk."""

    def __init__(
        self,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        needed: tuple[bool, ...],
    ) -> None:
        self._types = hidden.dtype, weight.dtype
        self.hidden = torch.zeros_like(hidden) if needed[0] else None
        wide = _result_dtype(weight.dtype)  # sums in 16 bits would lose what is small
        self.weight = torch.zeros_like(weight, dtype=wide) if needed[1] else None
        self.bias = torch.zeros_like(bias, dtype=wide) if bias is not None and needed[2] else None

    def add(
        self, gradient: torch.Tensor, inputs: torch.Tensor, weight: torch.Tensor, chunk: slice
    ) -> None:
        """Adds a chunk, from the gradient `(rows, V)` in what the layer gives."""
        if self.hidden is not None:
            self.hidden[chunk] += gradient @ weight
        if self.weight is not None and self.weight.dtype == gradient.dtype:
            self.weight.addmm_(gradient.T, inputs)
        elif self.weight is not None:
            self.weight += gradient.T @ inputs
        if self.bias is not None:
            self.bias += gradient.sum(0)

    def results(self) -> tuple[torch.Tensor | None, ...]:
        """The gradients, in the types of what they belong to."""
        of_weights = [None if s is None else s.to(self._types[1]) for s in (self.weight, self.bias)]
        return self.hidden, *of_weights


def _differentiated(
    rows: _Rows,
    raw: torch.Tensor,
    chunk: slice,
    grad_log_prob: torch.Tensor,
    grad_entropy: torch.Tensor,
) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """A chunk's log-probabilities and entropies, and a gradient in what the linear layer gives."""
    with torch.enable_grad():
        raw.requires_grad_()
        values = rows.of_logits(rows.head.finish(raw), chunk)
    (gradient,) = torch.autograd.grad(values, raw, (grad_log_prob, grad_entropy))
    return tuple(value.detach() for value in values), gradient


def _cast(
    weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor | None]:
    return weight.to(dtype), None if bias is None else bias.to(dtype)


def _result_dtype(dtype: torch.dtype) -> torch.dtype:
    """What `llm_gym.policy.sampling.widened` makes of a type."""
    return torch.float64 if dtype == torch.float64 else torch.float32
