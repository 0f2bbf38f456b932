"""What training on comparisons and on ratings have in common: the loop, and saving the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.feedback.reward_model.scorer import RECORD, RewardModelScorer, record_of
from llm_gym.files.atomic import replace_directory, write_json
from llm_gym.supervised.loop import (
    adamw,
    cosine_learning_rate,
    progress,
    save_model,
    shuffled_batches,
    thinned,
    training_step,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llm_gym.feedback.reward_model.settings import FittingSettings
    from llm_gym.scorers.classifier import Row

__all__ = ["fit", "save", "scorer_for"]


def fit(
    model: PreTrainedModel,
    lengths: Sequence[int],
    loss_of: Callable[[list[int]], torch.Tensor],
    settings: FittingSettings,
    *,
    title: str,
    quiet: bool,
) -> list[float]:
    """Minimises a loss over examples, in shuffled batches of similar length.

    Args:
        model: Trained in place; in evaluation mode afterwards.
        lengths: Tokens of each of the N examples.
        loss_of: Scalar loss of a batch, given the examples' numbers.
        settings: Epochs, learning rate and so on.
        title: Title of the progress bar.
        quiet: Show none.

    Returns:
        The loss curve, as the means of at most 100 stretches.
    """
    import torch

    generator = torch.Generator().manual_seed(settings.seed)
    batches = [
        batch
        for _ in range(settings.epochs)
        for batch in shuffled_batches(lengths, settings.batch_size, generator)
    ]
    optimizer = adamw(model, settings.weight_decay)
    for group in optimizer.param_groups:
        group["eps"] = settings.adam_epsilon
    parameters = [each for each in model.parameters() if each.requires_grad]
    losses: list[float] = []
    with progress(title, len(batches), quiet=quiet) as show, _seeded(model, settings.seed):
        model.train(settings.dropout)  # training mode means nothing but dropout
        for step, batch in enumerate(batches):
            rate = cosine_learning_rate(
                step,
                len(batches),
                settings.learning_rate,
                warmup_share=settings.warmup_share,
                final_share=settings.final_share,
            )
            loss = loss_of(batch)
            training_step(
                optimizer,
                parameters,
                loss,
                learning_rate=rate,
                max_grad_norm=settings.max_grad_norm,
            )
            losses.append(loss.item())
            show(losses[-1])
        model.eval()
    return thinned(losses)


def scorer_for(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    template: str | None,
    max_length: int | None,
) -> RewardModelScorer:
    """Writes the record into the model's configuration and makes the scorer that reads it.

    Args:
        model: With one output.
        tokenizer: Its own; takes over `max_length`.
        template: As for `SequenceClassifierScorer`; "auto" for the chat template if the tokenizer
            has one, else a pair.
        max_length: Tokens the model may be given; None for what it can.

    Raises:
        ValueError: A template that is none.
    """
    if template == "auto":
        template = "chat" if tokenizer.chat_template else None
    if max_length is not None:
        tokenizer.model_max_length = max_length  # saved with it, so that every loader cuts alike
    setattr(model.config, RECORD, record_of(template, tokenizer))
    return RewardModelScorer(model, tokenizer=tokenizer, template=template)


def save(
    scorer: RewardModelScorer, directory: str | Path, weights: str, metrics: dict[str, Any]
) -> None:
    """Writes model, tokenizer and `metrics.json`, whole or not at all.

    Args:
        scorer: Scorer of the trained model.
        directory: The destination.
        weights: Type of the stored weights.
        metrics: JSON-able.
    """
    with replace_directory(directory) as temporary:
        save_model(scorer.model, scorer.tokenizer, temporary, weights)
        write_json(temporary / "metrics.json", metrics)


def with_dropped_tokens(row: Row, share: float, substitute: int, generator: torch.Generator) -> Row:
    """Replaces a share of the tokens, each at random, so that no single one is relied upon."""
    import torch

    ids = torch.tensor(row["input_ids"])
    ids[torch.rand(len(ids), generator=generator) < share] = substitute
    return {**row, "input_ids": ids.tolist()}


@contextmanager
def _seeded(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Dropout draws from the global generators; they are as before afterwards."""
    import torch

    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
