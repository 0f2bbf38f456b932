"""What supervised training has in common: settings, a new model, batches, the loop, saving."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llm_gym.files.page import spread_evenly
from llm_gym.files.ranges import POSITIVE, check_choice
from llm_gym.files.rows import RowConfig
from llm_gym.files.settings import setting
from llm_gym.language_models import adapters
from llm_gym.language_models.divergence import (
    DivergenceError,
    check_figures,
    check_step,
    check_tensors,
)
from llm_gym.language_models.packing import IGNORED, micro_batches
from llm_gym.language_models.trained_types import refuse_float16, say_coarse

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Example = TypeVar("Example")

WEIGHTS = ("float32", "float16", "bfloat16")
"""Types in which weights are stored."""

TRAINED = ("float32", "bfloat16")
"""Types that weights may have while they are trained."""


def check_dtype(dtype: str) -> None:
    """Raises `ValueError` for a type in which nothing can be trained."""
    refuse_float16(dtype)
    check_choice("dtype", dtype, TRAINED)


def say_precision(model: PreTrainedModel) -> None:
    """Says once, as a warning, that steps of weights in bfloat16 are rounded away."""
    import torch

    if any(p.requires_grad and p.dtype == torch.bfloat16 for p in model.parameters()):
        say_coarse(2)


@dataclass(frozen=True)
class TrainingConfig(RowConfig):
    """Settings that all supervised training shares.

    Raises:
        ValueError: A value is out of range, by name.
    """

    batch_size: int = setting(16, "examples per step")
    micro_batch_size: int | None = setting(
        None, "examples of a step in memory at a time; default: all; the result is the same"
    )
    learning_rate: float = setting(1e-3, "peak of the cosine schedule", POSITIVE)
    warmup_share: float = setting(0.05, "share of the steps that warm up")
    final_share: float = setting(0.05, "last learning rate as a share of the peak")
    weight_decay: float = setting(0.0, "decay of the weight matrices")
    max_grad_norm: float = setting(1.0, "longer gradients are clipped")
    held_out_share: float = setting(
        0.05, "share that is held out to measure on, if nothing held out is given"
    )
    seed: int = setting(0, "seed of the order of examples")
    weights: str = setting("float32", "type of the stored weights: float32, float16 or bfloat16")
    device: str = setting("cpu", "where to train: cpu or cuda, for example")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("weights", self.weights, WEIGHTS)


def new_gpt2(
    tokenizer: PreTrainedTokenizerBase,
    *,
    context: int,
    width: int,
    layers: int,
    heads: int,
    seed: int,
) -> PreTrainedModel:
    """A GPT-2 without dropout, with random weights that depend on the seed alone.

    Args:
        tokenizer: Whose tokens it reads; the end of a text is their EOS.
        context: Longest input, in tokens.
        width: Width of the hidden states.
        layers: How many.
        heads: Heads of attention; must divide the width.
        seed: Seed of the weights.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=context,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():  # transformers initialises from the global generator
        torch.manual_seed(seed)
        return GPT2LMHeadModel(shape)


def cosine_learning_rate(
    step: int, total: int, peak: float, *, warmup_share: float, final_share: float
) -> float:
    """Linear warm-up to the peak, then half a cosine down to `final_share * peak`.

    Args:
        step: Step about to be taken, from 0.
        total: Number of steps.
        peak: Highest learning rate.
        warmup_share: Share of the steps used for warm-up.
        final_share: Last learning rate as a share of the peak.

    Returns:
        The learning rate, never 0 during the warm-up.
    """
    warmup = math.ceil(warmup_share * total)
    if step < warmup:
        return peak * (step + 1) / warmup
    along = (step - warmup) / max(1, total - 1 - warmup)  # 0 at the peak, 1 at the last step
    return peak * (final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * along)))


def adamw(
    model: torch.nn.Module, weight_decay: float, *, epsilon: float = 1e-8
) -> torch.optim.AdamW:
    """AdamW that decays matrices but neither biases nor gains (as GPT-2 was trained).

    Args:
        model: Whose parameters to train.
        weight_decay: Decay of the matrices.
        epsilon: Gradients far smaller than this move their weights in proportion to their size.
    """
    import torch

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=epsilon)


def next_token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the next token, in nats.

    Args:
        logits: float (B, T, V); those at t predict the token at t + 1.
        labels: int64 (B, T); `IGNORED` where the token is no target.

    Returns:
        Scalar mean over all targets.
    """
    from torch.nn.functional import cross_entropy

    from llm_gym.policy.sampling import widened

    # (B, T-1, V) against (B, T-1)
    return cross_entropy(
        widened(logits[:, :-1]).flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
    )


def perplexity_of(loss: float) -> float:
    """`exp` of a mean negative log-likelihood in nats; infinite where that is beyond a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def shuffled_batches(
    lengths: Sequence[int], batch_size: int, *, epochs: int = 1, seed: int = 0, window: int = 16
) -> list[list[int]]:
    """Batches of the rows' numbers: shuffled, with similar lengths together to pad less.

    Args:
        lengths: Lengths of the N rows.
        batch_size: Rows in a batch; the last ones of an epoch may be smaller.
        epochs: How often every row comes.
        seed: Seed of the order.
        window: Batches among whose rows the lengths are sorted.

    Returns:
        The batches of all epochs, one epoch after the other.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    shuffled: list[list[int]] = []
    for _ in range(epochs):
        order = torch.randperm(len(lengths), generator=generator).tolist()
        batches: list[list[int]] = []
        for start in range(0, len(order), window * batch_size):
            near = sorted(order[start : start + window * batch_size], key=lambda i: lengths[i])
            batches += [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
        shuffled += [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    return shuffled


def descend(
    model: PreTrainedModel,
    batches: Sequence[list[int]],
    loss_of: Callable[[list[int]], torch.Tensor],
    config: TrainingConfig,
    *,
    title: str,
    quiet: bool,
    optimizer: torch.optim.Optimizer | None = None,
    weights: Sequence[float] | None = None,
    dropout: bool = False,
    start: int = 0,
    after_step: Callable[[], None] | None = None,
) -> list[float]:
    """Takes one step down the gradient of the loss for each batch.

    The learning rate follows a cosine after a linear warm-up, the gradient's norm is clipped.

    Args:
        model: Trained in place; in evaluation mode afterwards.
        batches: Numbers of each step's examples.
        loss_of: Scalar loss of a batch, given the examples' numbers.
        config: Learning rate, its schedule, clipping, weight decay and micro-batches.
        title: Title of the progress bar.
        quiet: Show none.
        optimizer: Of the model's parameters; None makes AdamW.
        weights: Of each example in the mean that is the loss of a batch; None weighs all alike.
        dropout: Leave the model's own dropout on.
        start: Steps that were taken before: their batches are left out, the schedule goes on.
        after_step: Called after each step.

    Returns:
        The loss curve, as the means of at most 100 stretches.
    """
    import torch

    optimizer = optimizer or adamw(model, config.weight_decay)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    losses: list[float] = []
    model.train(dropout)  # training mode means nothing but dropout
    with progress(title, len(batches) - start, quiet=quiet) as show:
        for step in range(start, len(batches)):
            for group in optimizer.param_groups:
                group["lr"] = cosine_learning_rate(
                    step,
                    len(batches),
                    config.learning_rate,
                    warmup_share=config.warmup_share,
                    final_share=config.final_share,
                )
            optimizer.zero_grad(set_to_none=True)
            losses.append(0.0)
            for part, share in _parts(batches[step], config.micro_batch_size, weights):
                loss = share * loss_of(part)
                loss.backward()
                losses[-1] += loss.item()
            norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            with _explained(config, f"at step {step + 1:,} of {len(batches):,}"):
                check_step(losses[-1], float(norm))
            optimizer.step()
            show(losses[-1])
            if after_step is not None:
                after_step()
    with torch.no_grad(), _explained(config, "after the last step"):
        parts = _parts(batches[-1], config.micro_batch_size, weights)
        last = sum(share * loss_of(part).item() for part, share in parts)
        check_step(last, 0.0)  # nobody else has measured that step
    model.eval()
    return thinned(losses)


def _parts(
    batch: list[int], size: int | None, weights: Sequence[float] | None
) -> list[tuple[list[int], float]]:
    """Parts of a batch, and the share that each has in the mean over the batch."""
    weight = (lambda _: 1.0) if weights is None else weights.__getitem__
    total = sum(map(weight, batch))
    return [(part, sum(map(weight, part)) / total) for part in micro_batches(batch, size)]


@contextmanager
def _explained(config: TrainingConfig, when: str) -> Iterator[None]:
    """Has a `DivergenceError` say when it came, and what to lower."""
    try:
        yield
    except DivergenceError as error:
        advice = f"lower learning_rate ({config.learning_rate:g})"
        raise DivergenceError(f"{error.what} {when}", advice, "nothing was written") from None


def check_trained(metrics: Mapping[str, Any], config: TrainingConfig) -> None:
    """Refuses to keep a model that its training has led out of the numbers.

    Args:
        metrics: What was measured on the trained model, JSON-able.
        config: Of the training.

    Raises:
        DivergenceError: A metric is not finite, by name.
    """
    with _explained(config, "after the last step"):
        check_figures(metrics, "the metric")


@contextmanager
def progress(title: str, total: int, *, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A progress bar with the current loss.

    Args:
        title: What is going on.
        total: Number of steps.
        quiet: Show nothing.

    Yields:
        A function to call with the loss after each step.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        Remaining(),
    )
    with Progress(*columns, disable=quiet) as bar:
        task = bar.add_task(title, total=total, loss=float("nan"))
        yield lambda loss: bar.update(task, advance=1, loss=loss)


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
    weights: str,
) -> None:
    """Writes an ordinary Hugging Face directory, so that `from_pretrained` loads it.

    Of a model with a LoRA adapter that is the adapter's, which names its base.

    Args:
        model: What was trained of it is converted in place to the type of the stored weights.
        tokenizer: Written beside it.
        directory: Where to.
        weights: `"float32"`, `"float16"` or `"bfloat16"`.
    """
    _convert(model, weights)
    adapters.save_model(model, directory)
    tokenizer.save_pretrained(directory)


def spread_out(examples: Sequence[Example], number: int = 6) -> list[Example]:
    """A few examples to show, from all over the list."""
    return [examples[index] for index in spread_evenly(number, len(examples))]


def thinned(losses: list[float], points: int = 100) -> list[float]:
    """A loss curve as the means of at most `points` consecutive stretches."""
    width = math.ceil(len(losses) / points)
    parts = [losses[start : start + width] for start in range(0, len(losses), width)]
    return [round(sum(part) / len(part), 4) for part in parts]


def rounded(model: PreTrainedModel, weights: str, dtype: str = "float32") -> None:
    """Rounds the weights to the type they will be stored in, so that figures hold for the file.

    Args:
        model: Changed in place; of one with an adapter only what is stored.
        weights: Type of the stored weights.
        dtype: Type that they have in memory afterwards.
    """
    import torch

    _convert(model, weights)
    _cast(model, getattr(torch, dtype))


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> None:
    if adapters.adapter_of(model) is None:
        model.to(dtype)
        return
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def _convert(model: PreTrainedModel, weights: str) -> None:
    """Converts the weights in place; of a model with an adapter only those that are stored.

    Raises:
        DivergenceError: One is not finite, or the type cannot hold it.
    """
    import torch

    check_tensors(dict(model.named_parameters()), "the parameter")
    _cast(model, getattr(torch, weights))
    advice = "store weights as bfloat16 or float32, or lower the learning rate"
    check_tensors(dict(model.named_parameters()), f"as {weights}, the parameter", advice)
