"""Supervised fine-tuning: a model that continues text learns to answer instructions.

The loss is on the answers and their EOS only (`pairs.encode_pair`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files.atomic import replace_directory, write_json
from llm_gym.files.settings import setting
from llm_gym.language_models import PROMPT_TEMPLATE, load_causal_lm, load_tokenizer
from llm_gym.supervised.loop import (
    adamw,
    cosine_learning_rate,
    next_token_loss,
    progress,
    save_model,
    shuffled_batches,
    thinned,
    training_step,
)
from llm_gym.supervised.pairs import (
    encode_pairs,
    read_pairs,
    split_pairs,
)
from llm_gym.text.answer import Answer, pack_answers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from llm_gym.supervised.pairs import InstructionPair

__all__ = ["SFTConfig", "answer_perplexity", "fine_tune", "read_pairs"]


@dataclass(frozen=True)
class SFTConfig:
    """Settings of supervised fine-tuning."""

    prompt_template: str = setting(
        PROMPT_TEMPLATE, "filled with the prompt before encoding; generate with the same one"
    )
    epochs: int = setting(1, "passes over the pairs")
    batch_size: int = setting(32, "pairs per step")
    learning_rate: float = setting(1e-3, "peak of the cosine schedule")
    warmup_share: float = setting(0.05, "share of the steps that warm up")
    final_share: float = setting(0.05, "last learning rate as a share of the peak")
    weight_decay: float = setting(0.0, "decay of the weight matrices")
    max_grad_norm: float = setting(1.0, "longer gradients are clipped")
    held_out_share: float = setting(
        0.05, "share of the pairs that is held out if no held-out pairs are given"
    )
    seed: int = setting(0, "seed of the order of pairs")
    weights: str = setting("float32", "type of the stored weights: float32, float16 or bfloat16")
    device: str = setting("cpu", "where to train: cpu or cuda, for example")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if "{prompt}" not in self.prompt_template:
            raise ValueError(f"prompt_template must contain {{prompt}}: {self.prompt_template!r}")
        if not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share must be between 0 and 1, got {self.held_out_share}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.weights not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"weights must be float32, float16 or bfloat16, got {self.weights!r}")


def fine_tune(
    model: str | Path,
    pairs: str | Path | Sequence[InstructionPair],
    output: str | Path,
    config: SFTConfig | None = None,
    *,
    held_out: Sequence[InstructionPair] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Fine-tune a causal language model on instruction/answer pairs, and save it.

    Args:
        model: Name or path of the model to start from.
        pairs: A `.jsonl` file with "prompt" and "completion" in every line, or the pairs.
        output: Directory for model, tokenizer and `metrics.json`; written whole or not at all.
        config: Settings; None means the defaults.
        held_out: Pairs to measure on; None holds out a share of `pairs`.
        quiet: No progress bar.

    Returns:
        The metrics: held-out perplexity of the answers before and after, counts, the loss curve,
        the configuration, seconds.

    Raises:
        FileNotFoundError: If the file or the model does not exist.
        ValueError: If there are too few pairs, a pair is longer than the model's context, or the
            tokenizer has no EOS token.
    """
    config = config or SFTConfig()
    started = time.perf_counter()
    pairs = read_pairs(pairs) if isinstance(pairs, (str, Path)) else list(pairs)
    if held_out is None:
        pairs, held_out = split_pairs(pairs, config.held_out_share, config.seed)
    language_model, tokenizer = load_causal_lm(model), load_tokenizer(model)
    context = getattr(language_model.config, "max_position_embeddings", None)
    encoded = encode_pairs(tokenizer, pairs, config.prompt_template, context)
    held_out_encoded = encode_pairs(tokenizer, held_out, config.prompt_template, context)
    language_model.to(config.device)
    before = answer_perplexity(language_model, held_out_encoded, config.batch_size)
    losses = _train(language_model, encoded, config, quiet=quiet)
    after = answer_perplexity(language_model, held_out_encoded, config.batch_size)
    metrics = {
        "held_out_answer_perplexity_before": before,
        "held_out_answer_perplexity": after,
        "pairs": len(pairs),
        "answer_tokens": sum(len(pair.completion_ids) for pair in encoded),
        "seconds": time.perf_counter() - started,
        "loss": losses,
        "config": asdict(config),
    }
    with replace_directory(output) as directory:
        save_model(language_model, tokenizer, directory, config.weights)
        write_json(directory / "metrics.json", metrics)
    return metrics


def answer_perplexity(
    model: PreTrainedModel, pairs: Sequence[Answer], batch_size: int = 32
) -> float:
    """Perplexity per answer token (EOS included), given the prompts.

    Args:
        model: A causal language model.
        pairs: What `encode_pair` returned.
        batch_size: Pairs per forward pass.
    """
    import torch

    model.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(pairs), batch_size):
            rows = pairs[start : start + batch_size]
            total += _loss(model, rows).item() * sum(len(pair.completion_ids) for pair in rows)
    return math.exp(total / sum(len(pair.completion_ids) for pair in pairs))


def _loss(model: PreTrainedModel, pairs: Sequence[Answer]) -> torch.Tensor:
    """Mean negative log-likelihood of all answer tokens of the batch."""
    batch = pack_answers(pairs, device=model.device)
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return next_token_loss(logits, batch.labels)


def _train(
    model: PreTrainedModel, pairs: list[Answer], config: SFTConfig, *, quiet: bool
) -> list[float]:
    """Minimises the loss on the answers; returns the loss curve."""
    import torch

    generator = torch.Generator().manual_seed(config.seed)
    optimizer = adamw(model, config.weight_decay)
    parameters = list(model.parameters())
    lengths = [len(pair.ids) for pair in pairs]
    batches = [
        batch
        for _ in range(config.epochs)
        for batch in shuffled_batches(lengths, config.batch_size, generator)
    ]
    losses: list[float] = []
    model.eval()  # dropout stays off: with one pass over the pairs there is nothing to regularise
    with progress("fine-tuning", len(batches), quiet=quiet) as show:
        for step, batch in enumerate(batches):
            loss = _loss(model, [pairs[index] for index in batch])
            rate = cosine_learning_rate(
                step,
                len(batches),
                config.learning_rate,
                warmup_share=config.warmup_share,
                final_share=config.final_share,
            )
            training_step(
                optimizer,
                parameters,
                loss,
                learning_rate=rate,
                max_grad_norm=config.max_grad_norm,
            )
            losses.append(loss.item())
            show(losses[-1])
    return thinned(losses)
