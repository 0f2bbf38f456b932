"""Supervised fine-tuning: a model that continues text learns to answer instructions.

The loss is on the answers and their EOS only (`pairs.encode_pair`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files.atomic import write_json
from llm_gym.files.owned import check_replaceable, replace_directory
from llm_gym.files.rows import LengthConfig
from llm_gym.files.settings import setting
from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.architecture import check_ids, context_length
from llm_gym.language_models.chat import PromptFormat, check_prompt_template
from llm_gym.language_models.generation import end_with
from llm_gym.language_models.memory import check_training
from llm_gym.language_models.model_objects import ModelLike, named
from llm_gym.supervised.loop import (
    TrainingConfig,
    check_dtype,
    check_trained,
    descend,
    perplexity_of,
    save_model,
    say_precision,
    shuffled_batches,
    spread_out,
)
from llm_gym.supervised.lora import (
    LoraSettings,
    check_base,
    put_adapter,
    told_adapter,
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


@dataclass(frozen=True)
class SFTConfig(LengthConfig, TrainingConfig, LoraSettings):
    """Settings of supervised fine-tuning."""

    prompt_template: str | None = setting(
        None,
        "text around {prompt}, saved as the model's chat template; default: the chat template of "
        "the tokenizer, or the bare prompt if it has none",
    )
    epochs: int = setting(1, "passes over the pairs")
    batch_size: int = setting(32, "pairs per step")
    held_out_share: float = setting(
        0.05, "share of the pairs that is held out if no held-out pairs are given"
    )
    dtype: str = setting(
        "float32", "type of the model's weights while it is trained: float32 or bfloat16"
    )
    seed: int = setting(0, "seed of the order of pairs, and of a new adapter")

    def __post_init__(self) -> None:
        super().__post_init__()
        LoraSettings.__post_init__(self)
        check_prompt_template(self.prompt_template)
        check_dtype(self.dtype)


def fine_tune(
    model: ModelLike,
    pairs: Any,
    output: str | Path,
    config: SFTConfig | None = None,
    *,
    held_out: Sequence[InstructionPair] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Fine-tunes a causal language model on instruction/answer pairs, and saves it.

    With `lora_rank`, or from a model that is a LoRA adapter, that alone is trained and saved.

    Args:
        model: Name or path of the model to start from; or a model, see
            `llm_gym.language_models.model_objects.named`.
        pairs: A file, a data set, a table or a sequence of pairs; see `read_pairs`.
        output: Directory for model, tokenizer and `metrics.json`; written whole or not at all.
        config: Settings; None means the defaults.
        held_out: Pairs to measure on; None holds out a share of `pairs`.
        quiet: No progress bar.

    Returns:
        The metrics: held-out perplexity of the answers before and after, counts, the loss curve,
        a few held-out `examples`, the format of the prompts, the configuration, seconds.

    Raises:
        FileNotFoundError: If the file or the model does not exist.
        ImportError: For an adapter, if PEFT is not installed.
        ValueError: If there are too few pairs, a pair is longer than the model's context, the
            tokenizer has no EOS token, or the model cannot have the adapter.
    """
    config, model = config or SFTConfig(), named(model)
    check_replaceable(output)
    check_base(config, model, output)
    check_training(model, dtype=config.dtype, device=config.device, frozen=bool(config.lora_rank))
    started = time.perf_counter()
    pairs = read_pairs(pairs, bad_rows=config.bad_rows)
    if held_out is None:
        pairs, held_out = split_pairs(pairs, config.held_out_share, config.seed)
    language_model, tokenizer = load_causal_lm(model, dtype=config.dtype), load_tokenizer(model)
    put_adapter(language_model, config, seed=config.seed)
    say_precision(language_model)
    context = context_length(language_model)
    prompt_format = PromptFormat(tokenizer, config.prompt_template)
    saved_tokenizer = prompt_format.saved_tokenizer()
    if not quiet:
        print(f"prompts are shown as {prompt_format}")
        told = told_adapter(language_model, config.learning_rate, SFTConfig.learning_rate)
        if told:
            print(told)
    limits: dict[str, Any] = {
        "context": context,
        "too_long": config.too_long,
        "bad_rows": config.bad_rows,
    }
    encoded = encode_pairs(tokenizer, pairs, prompt_format, **limits)
    held_out_encoded = encode_pairs(tokenizer, held_out, prompt_format, **limits)
    for part in (encoded, held_out_encoded):
        check_ids([pair.ids for pair in part], language_model, tokenizer)
    language_model.to(config.device)
    before = answer_perplexity(language_model, held_out_encoded, config.batch_size)
    losses = descend(
        language_model,
        shuffled_batches(
            [len(pair.ids) for pair in encoded],
            config.batch_size,
            epochs=config.epochs,
            seed=config.seed,
        ),
        lambda batch: _loss(language_model, [encoded[index] for index in batch]),
        config,
        title="fine-tuning",
        quiet=quiet,
        # A prompt's first token, or an answer's without a prompt, is nowhere predicted.
        weights=[len(pair.ids) - max(1, len(pair.prompt_ids)) for pair in encoded],
    )
    after = answer_perplexity(language_model, held_out_encoded, config.batch_size)
    metrics = {
        "held_out_answer_perplexity_before": before,
        "held_out_answer_perplexity": after,
        "pairs": len(encoded),
        "too_long": len(pairs) + len(held_out) - len(encoded) - len(held_out_encoded),
        "answer_tokens": sum(len(pair.completion_ids) for pair in encoded),
        "seconds": time.perf_counter() - started,
        "loss": losses,
        "examples": [
            {"prompt": pair.messages or pair.prompt, "completion": pair.completion}
            for pair in spread_out(held_out)
        ],
        "prompt_format": prompt_format.shown,
        "config": asdict(config),
    }
    check_trained(metrics, config)
    with replace_directory(output) as directory:
        end_with(language_model, [prompt_format.end_token_id])
        save_model(language_model, saved_tokenizer, directory, config.weights)
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
    return perplexity_of(total / sum(len(pair.completion_ids) for pair in pairs))


def _loss(model: PreTrainedModel, pairs: Sequence[Answer]) -> torch.Tensor:
    """Mean negative log-likelihood of all answer tokens of the batch."""
    from llm_gym.policy.chunked_likelihood import answer_token_log_probs

    batch = pack_answers(pairs, device=model.device)
    predicted = batch.answer_slots > 0
    batch = batch._replace(
        answer_rows=batch.answer_rows[predicted], answer_slots=batch.answer_slots[predicted]
    )
    return -answer_token_log_probs(model, batch).mean()
