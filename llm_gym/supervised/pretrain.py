"""Next-token pre-training: from plain text to a tokenizer and a small GPT-2, from scratch.

The road is the usual one: train a byte-level BPE on the text, put all documents into one stream
with an end-of-text token after each, cut it into blocks, and minimise the cross-entropy of the
next token. A part of the text is held out before anything is learnt from it, tokenizer included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files.atomic import write_json
from llm_gym.files.owned import check_replaceable, replace_directory
from llm_gym.files.ranges import POSITIVE
from llm_gym.files.settings import setting
from llm_gym.language_models.memory import check_fits
from llm_gym.supervised.documents import read_documents, split_held_out, train_tokenizer
from llm_gym.supervised.loop import (
    TrainingConfig,
    check_trained,
    descend,
    new_gpt2,
    next_token_loss,
    perplexity_of,
    save_model,
    spread_out,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True)
class PretrainConfig(TrainingConfig):
    """Settings of pre-training."""

    vocab_size: int = setting(
        1024, "tokens of the BPE, with its 4 special tokens; at least 260 (all bytes)"
    )
    context: int = setting(
        192, "longest sequence the model can read, and the length of a training block"
    )
    width: int = setting(128, "size of the hidden states")
    layers: int = setting(4, "transformer blocks")
    heads: int = setting(4, "attention heads; must divide the width")
    steps: int = setting(1500, "optimiser steps; blocks are reshuffled whenever all have been seen")
    batch_size: int = setting(12, "blocks per step")
    learning_rate: float = setting(3e-3, "peak of the cosine schedule", POSITIVE)
    weight_decay: float = setting(0.1, "decay of the weight matrices")
    held_out_share: float = setting(
        0.05, "share of the text that is held out if no held-out text is given"
    )
    seed: int = setting(0, "seed of initial weights and of the order of blocks")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} must divide width={self.width}")


def pretrain(
    text: Any,
    output: str | Path,
    config: PretrainConfig | None = None,
    *,
    held_out: Sequence[str] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Trains a tokenizer and a language model from scratch, and save both.

    Args:
        text: A file, a data set, a table or the documents; see `read_documents`.
        output: Directory for model, tokenizer and `metrics.json`; written whole or not at all.
        config: Settings; None means the defaults.
        held_out: Documents to measure on; None holds out a share of `text`.
        quiet: No progress bar.

    Returns:
        The metrics: held-out perplexity per token before and after, bits per byte, token counts,
        the loss curve, the beginnings of a few held-out documents (`examples`), the configuration,
        seconds.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the text is too short for one block, or the model too large for memory.
    """
    config = config or PretrainConfig()
    check_replaceable(output)
    started = time.perf_counter()
    documents = read_documents(text, bad_rows=config.bad_rows)
    if held_out is None:
        documents, held_out = split_held_out(documents, config.held_out_share, config.seed)
    tokenizer = train_tokenizer(documents, vocab_size=config.vocab_size, context=config.context)
    _check_memory(config, len(tokenizer))
    blocks = _blocks(tokenizer, documents, config.context, "text")
    held_out_blocks = _blocks(tokenizer, held_out, config.context, "held-out text")
    model = new_gpt2(
        tokenizer,
        context=config.context,
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        seed=config.seed,
    ).to(config.device)
    before = stream_perplexity(model, held_out_blocks)

    def loss_of(batch: list[int]) -> torch.Tensor:
        ids = blocks[batch].to(model.device)  # (B, T)
        return next_token_loss(model(ids).logits, ids)

    batches = _batches(len(blocks), config)
    losses = descend(model, batches, loss_of, config, title="pre-training", quiet=quiet)
    after = stream_perplexity(model, held_out_blocks)
    metrics = {
        "held_out_perplexity_before": before,
        "held_out_perplexity": after,
        "held_out_bits_per_byte": _bits_per_byte(after, tokenizer, held_out),
        "train_tokens": blocks.numel(),
        "tokens_seen": config.steps * min(config.batch_size, len(blocks)) * config.context,
        "parameters": model.num_parameters(),
        "seconds": time.perf_counter() - started,
        "loss": losses,
        "examples": [{"prompt": _beginning(document)} for document in spread_out(held_out)],
        "config": asdict(config),
    }
    check_trained(metrics, config)
    with replace_directory(output) as directory:
        save_model(model, tokenizer, directory, config.weights)
        write_json(directory / "metrics.json", metrics)
    return metrics


def _check_memory(config: PretrainConfig, n_tokens: int) -> None:
    """Refuses a model of which training would certainly take more memory than there is."""
    # A block's four matrices of attention have 4 width^2 numbers, the two behind it 8.
    blocks = 12 * config.layers * config.width**2
    numbers = blocks + config.width * (n_tokens + config.context)
    check_fits(
        {"weights": 4 * numbers, "gradients": 4 * numbers, "the optimizer's moments": 8 * numbers},
        config.device,
        f"training a new model of width={config.width}, layers={config.layers}",
        "lower one of them",
    )


def _beginning(document: str) -> str:
    """The first words of a text, for a model to go on from."""
    return " ".join(document[:200].split()[:6])


def stream_perplexity(model: PreTrainedModel, blocks: torch.Tensor, batch_size: int = 32) -> float:
    """Perplexity per token of packed text.

    Args:
        model: A causal language model.
        blocks: int64 (B, T) token ids without padding; the first token of a block is not a target.
        batch_size: Blocks per forward pass.

    Returns:
        `exp` of the mean negative log-likelihood over all targets.
    """
    import torch

    model.eval()
    total = 0.0
    with torch.no_grad():
        for batch in blocks.split(batch_size):
            batch = batch.to(model.device)
            total += next_token_loss(model(batch).logits, batch).item() * len(batch)
    return perplexity_of(total / len(blocks))


def _blocks(
    tokenizer: PreTrainedTokenizerFast, documents: Sequence[str], length: int, what: str
) -> torch.Tensor:
    """All documents as one stream, each closed by EOS, cut into int64 (B, length)."""
    import torch

    stream = torch.tensor(_stream(tokenizer, documents))
    count = len(stream) // length
    if not count:
        raise ValueError(
            f"the {what} has only {len(stream)} tokens, less than one block of {length}; "
            "give more text or a smaller context"
        )
    return stream[: count * length].view(count, length)


def _stream(tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]) -> list[int]:
    """Token ids of all documents, each closed by EOS."""
    eos = tokenizer.eos_token_id
    # Straight to the Rust tokenizer: one long document is no reason for a warning here.
    encode = tokenizer.backend_tokenizer.encode
    return [
        token
        for document in documents
        for token in (*encode(document, add_special_tokens=False).ids, eos)
    ]


def _batches(blocks: int, config: PretrainConfig) -> list[list[int]]:
    """Numbers of the blocks of each step; all are shuffled again when all have been seen."""
    import torch

    generator = torch.Generator().manual_seed(config.seed)
    batches: list[list[int]] = []
    while len(batches) < config.steps:
        order = torch.randperm(blocks, generator=generator)
        batches += [batch.tolist() for batch in order.split(config.batch_size)]
    return batches[: config.steps]


def _bits_per_byte(
    perplexity: float, tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]
) -> float:
    """The perplexity in a unit that does not depend on the tokenizer."""
    tokens = len(_stream(tokenizer, documents))
    size = sum(len(document.encode()) for document in documents)
    return math.log2(perplexity) * tokens / size
