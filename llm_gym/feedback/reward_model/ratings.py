"""Training a reward model on ratings: real data often comes as 1 to 25, or as stars.

The model predicts the mean rating. It learns standardised ratings (mean 0, variance 1), and mean
and scale are folded into its head afterwards, so that it speaks in the raters' units.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import zip_longest
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
from llm_gym.feedback.reward_model.rewards import (
    check_last_tokens,
    rating_loss,
    rewards,
    rewards_of,
)
from llm_gym.files.encoding import check_text
from llm_gym.files.owned import check_replaceable
from llm_gym.files.ranges import check_choice
from llm_gym.files.rows import Note, as_list, parse_rows, read_rows
from llm_gym.files.settings import setting
from llm_gym.supervised.loop import check_trained, rounded

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
        quiet: No progress bar.

    Returns:
        The metrics: `held_out` and `train` (see `evaluation.evaluate_ratings`), `offset` (to add to
        the model's output for a rating; 0 wherever the architecture can express it), counts, the
        loss curve, the configuration, seconds.

    Raises:
        FileNotFoundError: The model does not exist.
        ValueError: Ratings that cannot be learnt from, or a model that cannot be a reward model.
    """
    config = config or RatingModelConfig()
    check_replaceable(output, KIND)
    scorer, metrics = fit_rating_model(
        texts, ratings, config, prompts=prompts, held_out=held_out, quiet=quiet
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
    if held_out is None:
        kept, measured = _split(len(texts), config.held_out_share, config.seed)
    else:
        kept, measured = np.arange(len(texts)), np.zeros(0, dtype=np.int64)
    scorer, goes_on = scorer_to_train(config)
    model = scorer.model
    rows = scorer.encode(prompts, texts)
    check_last_tokens(rows, model.config.pad_token_id)
    train = [rows[index] for index in kept]
    losses, offset = _train(scorer, train, table[kept], config, goes_on=goes_on, quiet=quiet)
    rounded(model, config.weights)
    check_trained({"mean_reward": float(rewards_of(model, train[:64]).mean())}, config)
    if held_out is None:
        tested, truth = [rows[index] for index in measured], table[measured]
    else:
        tested, truth = scorer.encode([""] * len(held_out[0]), held_out[0]), _checked(*held_out)
    metrics = {
        "held_out": evaluate_ratings(rewards_of(model, tested) + offset, truth),
        "train": evaluate_ratings(rewards_of(model, train) + offset, table[kept]),
        "offset": offset,
        "texts": len(train),
        "template": scorer.template,
        "parameters": model.num_parameters(),
        "loss": losses,
        "config": asdict(config),
        "seconds": time.perf_counter() - started,
    }
    check_trained(metrics, config)
    return scorer, metrics


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


def read_ratings(source: Any, *, bad_rows: str = "error") -> tuple[list[str], NDArray[np.float64]]:
    """Reads texts with ratings.

    Args:
        source: What `llm_gym.files.rows.read_rows` reads; every row has "text" and "ratings", a
            number or a list of numbers (null where a rater gave none).
        bad_rows: "error", or "skip" to leave out rows that cannot be read, with a warning.

    Returns:
        N texts, and their ratings, float64 `(N, R)` with NaN where there are fewer than R.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: Not something ratings can be read from.
        ValueError: A row lacks one of them; the message has its place.
    """
    rows = read_rows(source, "ratings")
    found = [row for _, row in parse_rows(rows, _rated, source, "ratings", bad_rows=bad_rows)]
    by_rater = list(zip_longest(*(ratings for _, ratings in found), fillvalue=np.nan))
    return [text for text, _ in found], np.array(by_rater, dtype=np.float64).T


def _rated(row: Any, note: Note) -> tuple[str, list[float]]:
    if not isinstance(row, Mapping):
        raise TypeError(f'needs an object with "text" and "ratings", got {row!r:.80}')
    check_text("text", row.get("text"))
    ratings = as_list(row.get("ratings"))
    if isinstance(ratings, str):  # a cell of CSV
        with suppress(ValueError):
            ratings = json.loads(ratings)
    if isinstance(ratings, list):
        ratings = [np.nan if rating is None else rating for rating in ratings]
    listed = ratings if isinstance(ratings, list) else [ratings]
    for rating in listed:
        if isinstance(rating, bool) or not isinstance(rating, (int, float)):
            raise ValueError(
                f'"ratings" must be a number or a list of numbers, got {row.get("ratings")!r:.80}'
            )
    if not all(np.isnan(rating) or np.isfinite(rating) for rating in listed):
        raise ValueError(f'"ratings" must be finite, got {row.get("ratings")!r:.80}')
    if all(np.isnan(rating) for rating in listed):
        raise ValueError('"ratings" has no number: the text is not rated')
    return row["text"], listed
