"""Likelihoods of many tokens of a large vocabulary, without all their logits at once.

`A` tokens of a vocabulary of `V` have `A x V` logits, whose gradient is as large again: 311 MB each
in float32 for 512 tokens of 152 thousand. Nobody needs them all at once. A linear head takes its
tokens in blocks (`llm_gym.policy.vocabulary_blocks`). Of any other head it is known only that a
row's logits hang on that row's hidden state alone, so rows are taken in chunks, whose logits are
gone before those of the next chunk are computed, in the forward pass and in the backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch.utils.checkpoint import checkpoint

from llm_gym.language_models.architecture import decoder_of, vocabulary_size
from llm_gym.policy.sampling import (
    EpisodeBatch,
    LanguageModelHead,
    log_prob_and_entropy,
    policy_logits,
    token_log_probs,
    widened,
)
from llm_gym.policy.vocabulary_blocks import Rows, log_prob_and_entropy_in_blocks, tokens_at_once

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llm_gym.language_models.packing import TokenBatch
    from llm_gym.policy.trunk import Trunk

WHOLE_BYTES = 128 * 2**20
"""Logits of no more bytes than this are computed at once: chunks would save next to nothing."""

CHUNK_BYTES = 64 * 2**20
"""Most bytes of the logits of a chunk: each reads the head's weights anew."""

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


def log_prob_and_entropy_of_hidden(
    hidden: torch.Tensor,
    head: LanguageModelHead,
    actions: torch.Tensor,
    *,
    temperature: float = 1.0,
    support: torch.Tensor | None = None,
    autocast_dtype: torch.dtype | None = None,
    rows_per_chunk: int | None = None,
    tokens_per_block: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of the actions, and entropy, that need not hold all logits at once.

    Equal to `llm_gym.policy.sampling.log_prob_and_entropy` of the logits, gradients too: those in
    the hidden states, and those in the head's weights where they are learnt. A linear head takes
    its tokens in blocks (`llm_gym.policy.vocabulary_blocks`), any other its rows in chunks, whose
    logits the backward pass computes again.

    Args:
        hidden: float `(A, H)`.
        head: Makes logits of hidden states.
        actions: int64 `(A,)`.
        temperature: Divides the logits.
        support: uint8 `(A, ceil(V / 8))`, the tokens to choose from, packed; `None` is all.
        autocast_dtype: Type of the head's matrix products, as `torch.autocast` has it; `None` is
            that of its weights.
        rows_per_chunk: Rows whose logits are computed at once by a head that is not linear; `None`
            is as `rows_at_once` says.
        tokens_per_block: Tokens of the vocabulary that a linear head takes at once, a multiple of
            8; `None` is as `llm_gym.policy.vocabulary_blocks.tokens_at_once` says.

    Returns:
        Two float tensors `(A,)`, differentiable once. Entropy is in nats.
    """
    rows = Rows(head, actions, temperature, support, autocast_dtype)
    if head.plain_linear is not None:
        most = tokens_per_block or tokens_at_once(len(hidden), hidden.device)
        if tokens_per_block or head.n_tokens > most:
            return log_prob_and_entropy_in_blocks(hidden, rows, most)
    size = rows_per_chunk or rows_at_once(
        len(hidden), head.n_tokens, learns=torch.is_grad_enabled()
    )
    if size >= len(hidden):
        return _likelihood(hidden, rows)
    chunks = [slice(start, start + size) for start in range(0, len(hidden), size)]
    parts = [
        checkpoint(
            _likelihood,
            hidden[chunk],
            rows.some(chunk),
            use_reentrant=False,
            preserve_rng_state=False,
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


def _likelihood(hidden: torch.Tensor, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of all rows at once."""
    dtype, enabled = rows.autocast_dtype, rows.autocast_dtype is not None
    with torch.autocast(hidden.device.type, dtype=dtype, enabled=enabled):
        logits = rows.head(hidden)  # (rows, V)
    logits = policy_logits(logits, rows.temperature, rows.support)
    return log_prob_and_entropy(logits, rows.actions)
