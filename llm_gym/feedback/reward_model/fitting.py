"""What training on comparisons and on ratings have in common: settings, model, loop, saving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.feedback.reward_model.backbone import load_backbone, shift_rewards
from llm_gym.feedback.reward_model.frozen import layers_of
from llm_gym.feedback.reward_model.rewards import rewards_of
from llm_gym.feedback.reward_model.scorer import (
    DTYPE,
    HEAD,
    RECORD,
    RewardModelScorer,
    record_of,
)
from llm_gym.feedback.reward_model.words import save_words
from llm_gym.files.atomic import write_json
from llm_gym.files.owned import replace_directory
from llm_gym.files.ranges import POSITIVE, check_choice
from llm_gym.files.rows import LengthConfig
from llm_gym.files.settings import setting
from llm_gym.language_models.adapters import adapter_of
from llm_gym.language_models.classifier_adapters import write_classifier_config
from llm_gym.language_models.memory import check_training
from llm_gym.language_models.model_objects import named
from llm_gym.supervised.loop import (
    TrainingConfig,
    adamw,
    check_dtype,
    descend,
    rounded,
    save_model,
    say_precision,
    shuffled_batches,
)
from llm_gym.supervised.lora import LoraSettings, told_adapter

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llm_gym.scorers.classifier import Row

KIND = "reward model"
"""What `llm_gym.json` calls it."""

MINIMUM = 10
"""Fewest comparisons or ratings to train on. Hundreds are few, too."""

HEADS = ("auto", "encoder", "words", "finetune")
"""How a reward model learns; see `FittingConfig.head`."""

_POOLINGS = ("auto", "mean", "answer", "last", "first")

OF_STEPS = frozenset(
    {
        "micro_batch_size",
        "batch_size",
        "learning_rate",
        "warmup_share",
        "final_share",
        "weight_decay",
        "max_grad_norm",
        "epochs",
        "adam_epsilon",
        "dropout",
        "center_rewards_coefficient",
        "token_dropout",
        "lora_rank",
        "lora_alpha",
        "lora_target_modules",
    }
)
"""Settings that mean nothing where no gradient step is taken."""


@dataclass(frozen=True)
class FittingConfig(LengthConfig, TrainingConfig, LoraSettings):
    """Settings that training on comparisons and training on ratings share.

    Raises:
        ValueError: A value is out of range, by name.
    """

    model: str = setting(
        "llm_gym/email-sft", "model to start from, by embedded or hub name, or directory"
    )
    head: str = setting(
        "auto",
        "what learns: auto weighs the words of a text and the hidden states of the model as it is, "
        "by cross-validation; encoder or words is one of them alone; finetune trains the whole "
        "model by gradient steps",
    )
    hidden_layers: str = setting(
        "auto",
        "layers that are read: one (4) or neighbouring ones (2-5), 0 being the embeddings; auto "
        "chooses by cross-validation, and with finetune leaves it to the architecture's classifier",
    )
    pooling: str = setting(
        "auto",
        "what is read of them: the mean over all tokens, over those of the answer (where the "
        "tokenizer marks segments), the last or the first token; auto chooses as with layers",
    )
    template: str = setting(
        "auto",
        "how prompt and text become the model's input: chat for the tokenizer's chat template, "
        "pair, or a format string with {completion} and perhaps {prompt}",
    )
    max_length: int = setting(
        0,
        "most tokens of a text, its prompt included; what is truncated loses its beginning; 0 for "
        "what the model can read",
    )
    epochs: int = setting(1, "passes over the examples")
    learning_rate: float = setting(3e-4, "peak of the cosine schedule", POSITIVE)
    weight_decay: float = setting(0.01, "decay of the weight matrices")
    adam_epsilon: float = setting(
        1e-8,
        "gradients far smaller than this move their weights in proportion to their size, as "
        "without Adam, so that a word's embedding moves the less the rarer the word. At 1e-8 "
        "all embeddings move alike, and those of rare words may learn texts by heart",
    )
    dropout: bool = setting(False, "leave the model's own dropout on while training")
    dtype: str = setting(
        "float32",
        "type of the model's weights while they are read and trained: float32 or bfloat16",
    )
    held_out_share: float = setting(
        0.1, "share that is held out to measure on, if nothing held out is given"
    )
    seed: int = setting(0, "seed of the head, of folds, of the order of examples and of dropout")

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", named(self.model))
        super().__post_init__()
        LoraSettings.__post_init__(self)
        check_choice("head", self.head, HEADS)
        check_choice("pooling", self.pooling, _POOLINGS)
        check_dtype(self.dtype)
        if self.hidden_layers != "auto":
            layers_of(self.hidden_layers)
        if self.head == "finetune":
            self._check_adapter()
            return
        for part in fields(self):
            value = getattr(self, part.name)
            if part.name in OF_STEPS and value != part.default:
                raise ValueError(
                    f"{part.name}={value} is for gradient steps, and head={self.head!r} takes "
                    "none; leave it out, or choose head='finetune' (--head finetune)"
                )

    def _check_adapter(self) -> None:
        for name in ("hidden_layers", "pooling"):
            if self.lora_rank and getattr(self, name) != "auto":
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is of a head on pooled layers, and "
                    f"lora_rank={self.lora_rank} trains the architecture's own classifier; leave "
                    "one of them out"
                )


def fit(
    model: PreTrainedModel,
    lengths: Sequence[int],
    loss_of: Callable[[list[int]], torch.Tensor],
    config: FittingConfig,
    *,
    title: str,
    quiet: bool,
) -> list[float]:
    """Minimises a loss over examples, in shuffled batches of similar length.

    Args:
        model: Trained in place; in evaluation mode afterwards.
        lengths: Tokens of each of the N examples.
        loss_of: Scalar loss of a batch, given the examples' numbers.
        config: Epochs, learning rate and so on.
        title: Title of the progress bar.
        quiet: Show none.

    Returns:
        The loss curve, as the means of at most 100 stretches.
    """
    told = told_adapter(model, config.learning_rate, type(config).learning_rate)
    if told is not None and not quiet:
        print(told)
    with _seeded(model, config.seed):
        return descend(
            model,
            shuffled_batches(lengths, config.batch_size, epochs=config.epochs, seed=config.seed),
            loss_of,
            config,
            title=title,
            quiet=quiet,
            optimizer=adamw(model, config.weight_decay, epsilon=config.adam_epsilon),
            dropout=config.dropout,
        )


def scorer_to_train(config: FittingConfig) -> tuple[RewardModelScorer, bool]:
    """Loads the model to start from, onto its device.

    Returns:
        Its scorer, and whether it was a reward model before, in whatever units.
    """
    template = None if config.template == "pair" else config.template
    if (Path(config.model) / HEAD).is_file():
        raise ValueError(
            f"model={config.model!r} is a reward model whose head stands on a trunk that was left "
            "as it was: there is nothing to train further; start from the model that it was made of"
        )
    if _reads_pooled(config):
        model, tokenizer = _pooled(config)
        goes_on = False
    else:
        check_training(
            config.model,
            dtype=config.dtype,
            device=config.device,
            frozen=bool(config.lora_rank),
        )
        model, tokenizer = load_backbone(
            config.model, seed=config.seed, adapter=config, dtype=config.dtype
        )
        goes_on = hasattr(model.config, RECORD)
    if config.head == "finetune":
        say_precision(model)
    model.to(config.device)
    scorer = scorer_for(model, tokenizer, template, config.max_length or None)
    if config.head != "finetune" or adapter_of(model) is not None:
        # What stays as it is has to be read as it was.
        getattr(model.config, RECORD)[DTYPE] = config.dtype
    return scorer, goes_on


def _reads_pooled(config: FittingConfig) -> bool:
    """Whether layers are pooled, instead of what the architecture's own classifier reads."""
    own = (config.hidden_layers, config.pooling) == ("auto", "auto")
    return config.head != "finetune" or not own


def _pooled(config: FittingConfig) -> tuple[Any, PreTrainedTokenizerBase]:
    """A trunk that reads all layers, to be fitted as it is; or a new head to be trained."""
    from llm_gym.feedback.reward_model.pooled import (
        PooledRewardModel,
        depth,
        load_trunk,
        new_head,
        without_unread_blocks,
    )

    trunk, tokenizer = load_trunk(config.model, config.dtype)
    deepest = depth(trunk.config)
    if config.head != "finetune":
        rounded(trunk, config.weights, config.dtype)  # what is read must be what will be stored
        return PooledRewardModel(trunk, range(deepest + 1), "mean"), tokenizer
    auto = config.hidden_layers == "auto"
    layers = [deepest] if auto else layers_of(config.hidden_layers)
    pooling = "mean" if config.pooling == "auto" else config.pooling
    model = PooledRewardModel(trunk, layers, pooling)
    model.trunk = without_unread_blocks(trunk, layers)
    new_head(model, config.seed)
    return model, tokenizer


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


def shift(scorer: RewardModelScorer, rows: Sequence[Row], by: float) -> bool:
    """Adds a constant to all rewards; says whether the architecture can express that.

    Args:
        scorer: Whose model is changed.
        rows: Some texts, to see that their rewards are shifted.
        by: The constant.
    """
    import torch

    probe = rows[:16]
    return shift_rewards(scorer.model, by, lambda: torch.tensor(rewards_of(scorer.model, probe)))


def centre(scorer: RewardModelScorer, mean: float) -> float:
    """Takes the mean reward of the training answers away; returns what is left of it.

    Args:
        scorer: Of a `PooledRewardModel`, whose head has an intercept.
        mean: Their mean reward.
    """
    import torch

    bias = scorer.model.score.bias
    before = bias.item()
    with torch.no_grad():
        bias.sub_(mean)
    return float(mean + bias.item() - before)


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
    from llm_gym.feedback.reward_model.pooled import PooledRewardModel

    with replace_directory(directory, KIND) as temporary:
        model: Any = scorer.model
        if isinstance(model, PooledRewardModel):
            save_model(model.trunk, scorer.tokenizer, temporary, weights)
            model.save_head(temporary)
        else:
            save_model(model, scorer.tokenizer, temporary, weights)
            if adapter_of(model) is not None:  # which comes without a config.json
                write_classifier_config(model, temporary, RECORD)
        if scorer.words is not None:
            save_words(scorer.words, temporary)
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
