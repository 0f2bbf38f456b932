"""Training a reward model on ratings: real data often comes as 1 to 25, or as stars.

The model predicts the mean rating. It learns standardised ratings (mean 0, variance 1), and mean
and scale are folded into its head afterwards, so that it speaks in the raters' units.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.feedback.reward_model.backbone import scale_rewards
from llm_gym.feedback.reward_model.evaluation import evaluate_ratings
from llm_gym.feedback.reward_model.fitting import (
    KIND,
    MINIMUM,
    FittingConfig,
    fit,
    save,
    scorer_to_train,
    shift,
    with_dropped_tokens,
)
from llm_gym.feedback.reward_model.frozen import fit_frozen
from llm_gym.feedback.reward_model.lengths import short_examples
from llm_gym.feedback.reward_model.parts import Task
from llm_gym.feedback.reward_model.rewards import (
    check_last_tokens,
    rating_loss,
    rewards,
    rewards_of,
)
from llm_gym.feedback.reward_model.rival import tfidf_ratings, told_beside
from llm_gym.files.encoding import check_text
from llm_gym.files.owned import check_replaceable
from llm_gym.files.ranges import check_choice
from llm_gym.files.settings import setting
from llm_gym.supervised.loop import check_trained, rounded
from llm_gym.supervised.lora import check_base

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from transformers import PreTrainedTokenizerBase

    from llm_gym.feedback.reward_model.scorer import RewardModelScorer
    from llm_gym.scorers.classifier import Row

_PRIOR = 4  # ratings that the pooled variance counts for, beside a text's own


@dataclass(frozen=True)
class RatingModelConfig(FittingConfig):
    """Settings of a reward model's training on ratings."""

    held_out_share: float = setting(
        0.1, "share of the texts that is held out if no held-out texts are given"
    )
    template: str = setting(
        "{completion}",
        "how prompt and text become the model's input: chat for the tokenizer's chat template, "
        "pair, or a format string with {completion} and perhaps {prompt}",
    )
    epochs: int = setting(2, "passes over the texts")
    batch_size: int = setting(32, "texts per step")
    rater_noise: str = setting(
        "ignore", "ignore counts all texts alike, weight those less whose raters differ more"
    )
    token_dropout: float = setting(
        0.0, "share of the tokens that are replaced by the mask token while training"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("rater_noise", self.rater_noise, ("ignore", "weight"))


def train_rating_model(
    texts: Sequence[str],
    ratings: ArrayLike,
    output: str | Path,
    config: RatingModelConfig | None = None,
    *,
    prompts: Sequence[str] | None = None,
    held_out: tuple[Sequence[str], ArrayLike] | None = None,
    places: Sequence[str] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Trains a reward model to predict ratings, and saves it.

    Args:
        texts: N texts that were rated.
        ratings: Float `(N,)`, or `(N, R)` with a column for each rater and NaN where one gave none.
        output: Directory for model, tokenizer and `metrics.json`; written whole or not at all.
        config: Settings; None means the defaults.
        prompts: What the texts answer; None if nothing (their template needs no `{prompt}` then).
        held_out: Texts and ratings to measure on, without prompts; None holds out a share.
        places: Where the texts were read, for messages.
        quiet: No progress bar.

    Returns:
        The metrics: `held_out` and `train` (see `evaluation.evaluate_ratings`), those of `tfidf`
        beside it (see `rival`), what the `head` is made of (see `frozen.fit_frozen`; None of a
        fine-tuned one), `offset` (to add to
        the model's output for a rating; 0 wherever the architecture can express it), counts, the
        loss curve, the configuration, seconds.

    Raises:
        FileNotFoundError: The model does not exist.
        TooLongError: A text is longer than the model can read, or than `max_length`, and `too_long`
            is "error".
        ValueError: Ratings that cannot be learnt from, or a model that cannot be a reward model.
    """
    config = config or RatingModelConfig()
    check_replaceable(output, KIND)
    check_base(config, config.model, output)
    scorer, metrics = fit_rating_model(
        texts, ratings, config, prompts=prompts, held_out=held_out, places=places, quiet=quiet
    )
    save(scorer, output, config.weights, metrics)
    return metrics


def fit_rating_model(
    texts: Sequence[str],
    ratings: ArrayLike,
    config: RatingModelConfig,
    *,
    prompts: Sequence[str] | None = None,
    held_out: tuple[Sequence[str], ArrayLike] | None = None,
    places: Sequence[str] | None = None,
    quiet: bool = False,
) -> tuple[RewardModelScorer, dict[str, Any]]:
    """`train_rating_model` without writing anything.

    Returns:
        The scorer with the trained model, in evaluation mode, and the metrics.
    """
    started = time.perf_counter()
    table = _checked(texts, ratings)
    prompts = [""] * len(texts) if prompts is None else prompts
    if len(prompts) != len(texts):
        raise ValueError(f"there are {len(prompts)} prompts for {len(texts)} texts")
    scorer, goes_on = scorer_to_train(config)
    model = scorer.model
    places = places or [f"texts[{index}]" for index in range(len(texts))]
    short = _short(scorer, places, prompts, texts, config, "texts")
    left_out = len(texts) - len(short)
    prompts, texts = [prompts[index] for index in short], [texts[index] for index in short]
    table = _checked(texts, table[short])
    if held_out is None:
        kept, measured = _split(len(texts), config.held_out_share, config.seed)
    else:
        kept, measured = np.arange(len(texts)), np.zeros(0, dtype=np.int64)
    rows = scorer.encode(prompts, texts)
    check_last_tokens(rows, model.config.pad_token_id)
    train = [rows[index] for index in kept]
    learnt, read = [texts[index] for index in kept], [prompts[index] for index in kept]
    head = None
    if config.head == "finetune":
        losses, offset = _train(scorer, train, table[kept], config, goes_on=goes_on, quiet=quiet)
        rounded(model, config.weights)
    else:
        losses, offset = [], 0.0
        head, values = fit_frozen(scorer, read, _task(learnt, table[kept], config), config)
    if held_out is None:
        tested, truth = [texts[index] for index in measured], table[measured]
        asked = [prompts[index] for index in measured]
    else:
        tested, truth, unread = _held_out(scorer, *held_out, config)
        asked = [""] * len(tested)
        left_out += unread
    fitted = values[0] if head else scorer.rewards(read, learnt, train) + offset
    check_trained({"mean_reward": float(fitted.mean())}, config)
    predicted = scorer.rewards(asked, tested) + offset
    rival = tfidf_ratings(learnt, np.nanmean(table[kept], axis=1), tested)
    metrics = {
        "held_out": evaluate_ratings(predicted, truth),
        "tfidf": told_beside(predicted, rival, np.nanmean(truth, axis=1)),
        "head": head,
        "train": evaluate_ratings(fitted, table[kept]),
        "offset": offset,
        "texts": len(train),
        "too_long": left_out,
        "template": scorer.template,
        "parameters": scorer.model.num_parameters(),
        "loss": losses,
        "config": asdict(config),
        "seconds": time.perf_counter() - started,
    }
    check_trained(metrics, config)
    return scorer, metrics


def _short(
    scorer: RewardModelScorer,
    places: Sequence[str],
    prompts: Sequence[str],
    texts: Sequence[str],
    config: RatingModelConfig,
    name: str,
) -> list[int]:
    """The numbers of the texts that are not left out as too long."""
    numbered = [(place, index) for index, place in enumerate(places)]
    return short_examples(
        scorer, numbered, lambda index: [(prompts[index], texts[index])], config, name
    )


def _task(texts: list[str], table: NDArray[np.float64], config: RatingModelConfig) -> Task:
    """The ratings as `frozen.fit_frozen` takes them."""
    weigh = config.rater_noise == "weight"
    trust = rating_weights(table) if weigh else np.ones(len(texts))
    return Task((texts,), np.nanmean(table, axis=1), trust, groups=texts)


def _held_out(
    scorer: RewardModelScorer, texts: Sequence[str], ratings: ArrayLike, config: RatingModelConfig
) -> tuple[list[str], NDArray[np.float64], int]:
    """Texts to measure on, their ratings, and how many are left out as too long."""
    table, prompts = _checked(texts, ratings), [""] * len(texts)
    places = [f"held_out[{index}]" for index in range(len(texts))]
    short = _short(scorer, places, prompts, texts, config, "held-out texts")
    return [texts[index] for index in short], table[short], len(texts) - len(short)


def rating_weights(ratings: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much to trust the mean rating of each text: its inverse variance, 1 in the mean.

    The variance of a text's n ratings is s^2 / n, where s^2 is drawn towards the mean of all texts
    (which counts for 4 further ratings), so that no text of few agreeing raters outweighs the rest.

    Args:
        ratings: float `(N, R)`, NaN where a rater gave none; at least one rating in each row.

    Returns:
        float64 `(N,)`, positive.
    """
    count = (~np.isnan(ratings)).sum(axis=1)
    centred = ratings - np.nanmean(ratings, axis=1, keepdims=True)
    squares = np.nansum(centred**2, axis=1)
    free = count - 1
    if not squares.sum() > 0:  # one rating each, or no disagreement anywhere: by count alone
        return count / count.mean()
    pooled = squares.sum() / free.sum()
    variance = (squares + _PRIOR * pooled) / (free + _PRIOR) / count
    return (1 / variance) / np.mean(1 / variance)


def _train(
    scorer: RewardModelScorer,
    rows: list[Row],
    table: NDArray[np.float64],
    config: RatingModelConfig,
    *,
    goes_on: bool,
    quiet: bool,
) -> tuple[list[float], float]:
    """Returns the loss curve, and what is to be added to the model's output for a rating.

    `goes_on` says that the model is a reward model already, in whatever units.
    """
    import torch

    model, tokenizer = scorer.model, scorer.tokenizer
    mean_ratings = np.nanmean(table, axis=1)
    mean, scale = mean_ratings.mean(), mean_ratings.std()
    targets = torch.tensor((mean_ratings - mean) / scale, dtype=torch.float32)  # (N,)
    trust = rating_weights(table) if config.rater_noise == "weight" else np.ones(len(rows))
    weights = torch.tensor(trust, dtype=torch.float32)
    substitute = _substitute(tokenizer) if config.token_dropout else 0
    generator = torch.Generator().manual_seed(config.seed)
    if goes_on:
        _match(scorer, rows, targets.numpy())

    def loss_of(batch: list[int]) -> torch.Tensor:
        chosen = [rows[index] for index in batch]
        if config.token_dropout:
            chosen = [
                with_dropped_tokens(row, config.token_dropout, substitute, generator)
                for row in chosen
            ]
        predicted = rewards(model, chosen)  # (B,)
        target, weight = (part[batch].to(predicted.device) for part in (targets, weights))
        return rating_loss(predicted, target, weight) * weight.mean()

    lengths = [len(row["input_ids"]) for row in rows]
    losses = fit(model, lengths, loss_of, config, title="rating model", quiet=quiet)
    rounded(model, "float32")  # which can be shifted, where a narrower type loses it
    scale_rewards(model, float(scale))
    return losses, 0.0 if shift(scorer, rows, float(mean)) else float(mean)


def _match(scorer: RewardModelScorer, rows: list[Row], targets: NDArray[np.float64]) -> None:
    """Puts the model's rewards into the units of the targets, by the straight line that fits."""
    values = rewards_of(scorer.model, rows)
    spread = values.var()
    gain = float(np.mean((values - values.mean()) * targets) / spread) if spread > 0 else 0.0
    if gain > 0:  # else the model knows nothing of these ratings, and its units do not matter
        scale_rewards(scorer.model, gain)
        shift(scorer, rows, float(targets.mean() - gain * values.mean()))


def _substitute(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ValueError(
        "token_dropout needs a tokenizer with a mask, unknown or end-of-sequence token to put in "
        "the place of others; set token_dropout=0"
    )


def _split(number: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.random.default_rng(seed).permutation(number)
    held_out = max(1, round(share * number))
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _checked(texts: Sequence[str], ratings: ArrayLike) -> NDArray[np.float64]:
    """The ratings as a table, float64 (N, R)."""
    table = np.asarray(ratings, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or len(table) != len(texts):
        raise ValueError(
            f"ratings must have a row for each of the {len(texts)} texts, got shape {table.shape}"
        )
    if len(texts) < MINIMUM:
        raise ValueError(f"there are {len(texts)} rated texts, too few: at least {MINIMUM}")
    for index, text in enumerate(texts):
        check_text(f"texts[{index}]", text)
    unrated = np.flatnonzero(np.isnan(table).all(axis=1))
    if np.isinf(table).any() or len(unrated):
        problem = f"texts[{unrated[0]}] has no rating" if len(unrated) else "one is infinite"
        raise ValueError(f"ratings must be finite numbers, at least one a text; {problem}")
    if np.ptp(np.nanmean(table, axis=1)) == 0:
        raise ValueError(
            f"all {len(texts)} texts have the same rating, {np.nanmean(table):g}: there is nothing "
            "to learn"
        )
    return table
