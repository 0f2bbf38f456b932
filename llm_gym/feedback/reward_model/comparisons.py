"""Training a reward model on comparisons, by the model of Bradley and Terry.

The reward r of an answer is fitted so that `sigma(r_chosen - r_rejected)` predicts which of two
answers people prefer. Comparisons determine rewards up to a constant; a small penalty keeps it
near 0 in training, and afterwards the mean reward of the training answers is set to 0 exactly where
the architecture can express it (see `backbone.shift_rewards`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llm_gym.feedback.preferences import Preference, preferences_from
from llm_gym.feedback.preferences.files import CONTRADICTIONS
from llm_gym.feedback.preferences.records import asked
from llm_gym.feedback.reward_model.evaluation import accuracy, evaluate_differences
from llm_gym.feedback.reward_model.fitting import (
    KIND,
    MINIMUM,
    FittingConfig,
    centre,
    fit,
    save,
    scorer_to_train,
    shift,
)
from llm_gym.feedback.reward_model.frozen import fit_frozen
from llm_gym.feedback.reward_model.lengths import number_cut, short_comparisons
from llm_gym.feedback.reward_model.parts import Task
from llm_gym.feedback.reward_model.rewards import (
    bradley_terry_loss,
    centring_penalty,
    check_last_tokens,
    rewards,
    rewards_of,
)
from llm_gym.feedback.reward_model.rival import tfidf_margins, told_against, word_margins
from llm_gym.files.owned import check_replaceable
from llm_gym.files.ranges import check_choice
from llm_gym.files.settings import setting
from llm_gym.supervised.loop import check_trained, rounded, spread_out
from llm_gym.supervised.lora import check_base

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from llm_gym.feedback.reward_model.scorer import RewardModelScorer
    from llm_gym.scorers.classifier import Row

_SIDES = ("chosen", "rejected")  # what a store's column `shown_first` says


@dataclass(frozen=True)
class RewardModelConfig(FittingConfig):
    """Settings of a reward model's training on comparisons."""

    template: str = setting(
        "auto",
        "how prompt and answer become the model's input: chat for the tokenizer's chat "
        "template, pair, or a format string with {prompt} and {completion}; auto is the chat "
        "template if there is one, else the pair",
    )
    epochs: int = setting(1, "passes over the comparisons")
    batch_size: int = setting(16, "comparisons per step")
    held_out_share: float = setting(
        0.1, "share of the prompts that is held out if no held-out comparisons are given"
    )
    margin: float = setting(0.0, "by how much rewards must differ for a loss of log 2")
    margin_column: str = setting(
        "", "column of the comparisons that is added to the margin; empty for none"
    )
    weight_column: str = setting("", "column of the comparisons that weighs them; empty for none")
    center_rewards_coefficient: float = setting(
        0.01, "weight of the squared sum of the two rewards, which keeps rewards near 0"
    )
    contradictions: str = setting(
        "raise", "what becomes of rows of a file that contradict each other: raise, keep or drop"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("contradictions", self.contradictions, CONTRADICTIONS)


class _Examples(NamedTuple):
    """Encoded comparisons, row i of `chosen` against row i of `rejected`."""

    chosen: list[Row]
    rejected: list[Row]
    margins: torch.Tensor  # float32 (N,)
    weights: torch.Tensor  # float32 (N,)

    def lengths(self) -> list[int]:
        pairs = zip(self.chosen, self.rejected, strict=True)
        return [
            max(len(chosen["input_ids"]), len(rejected["input_ids"])) for chosen, rejected in pairs
        ]


def train_reward_model(
    preferences: Any,
    output: str | Path,
    config: RewardModelConfig | None = None,
    *,
    held_out: Sequence[Preference] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Trains a reward model on comparisons, and saves it.

    What is written is an ordinary directory for `AutoModelForSequenceClassification`, and so for
    TRL; `RewardModelScorer(output)` scores with it.

    Args:
        preferences: See `llm_gym.feedback.preferences.preferences_from`.
        output: Directory for model, tokenizer and `metrics.json`; written whole or not at all.
        config: Settings; None means the defaults.
        held_out: Comparisons to measure on; None holds out a share of the prompts.
        quiet: No progress bar.

    Returns:
        The metrics: `held_out` and `train` (see `evaluation.evaluate_differences`), the accuracy of
        a `bag_of_words` and of `tfidf` on the same held-out comparisons (see `rival`), what the
        `head` is made of (see `frozen.fit_frozen`; None of a fine-tuned one), `mean_reward` of the
        training answers, whether they are `centred` exactly, counts (of comparisons that are `cut`
        and of those left out as `too_long`, too), the loss curve, the configuration, seconds.

    Raises:
        FileNotFoundError: The file or the model does not exist.
        TooLongError: A comparison is longer than the model can read, or than `max_length`, and
            `too_long` is "error".
        ValueError: The comparisons cannot be learnt from (see `check_preferences`), the
            model cannot be a reward model, or a setting does not fit the data.
    """
    config = config or RewardModelConfig()
    check_replaceable(output, KIND)
    check_base(config, config.model, output)
    scorer, metrics = fit_reward_model(preferences, config, held_out=held_out, quiet=quiet)
    save(scorer, output, config.weights, metrics)
    return metrics


def fit_reward_model(
    preferences: Any,
    config: RewardModelConfig,
    *,
    held_out: Sequence[Preference] | None = None,
    quiet: bool = False,
) -> tuple[RewardModelScorer, dict[str, Any]]:
    """`train_reward_model` without writing anything.

    Returns:
        The scorer with the trained model, in evaluation mode, and the metrics.
    """
    started = time.perf_counter()
    rows = preferences_from(preferences, config.contradictions, bad_rows=config.bad_rows)
    check_preferences(rows)
    scorer, _ = scorer_to_train(config)
    kept, measured = short_comparisons(scorer, rows, config, held_out)
    left_out = len(rows) + len(held_out or ()) - len(kept) - len(measured)
    scorer, metrics = fit_short_comparisons(scorer, kept, measured, config, quiet=quiet)
    return scorer, metrics | {"too_long": left_out, "seconds": time.perf_counter() - started}


def fit_short_comparisons(
    scorer: RewardModelScorer,
    rows: Sequence[Preference],
    held_out: Sequence[Preference],
    config: RewardModelConfig,
    *,
    quiet: bool = False,
) -> tuple[RewardModelScorer, dict[str, Any]]:
    """`fit_reward_model` of a model that is loaded, on what `short_comparisons` returned."""
    started = time.perf_counter()
    check_preferences(rows)
    model = scorer.model
    examples = _encoded(rows, scorer, config)
    losses, head = [], None
    if config.head == "finetune":
        losses = fit(
            model,
            examples.lengths(),
            lambda batch: _loss(scorer, examples, batch, config),
            config,
            title="reward model",
            quiet=quiet,
        )
        rounded(model, "float32")  # which can be shifted, where a narrower type loses it
        answers = _distinct(examples)
        centred = shift(scorer, answers, -float(rewards_of(model, answers).mean()))
        rounded(model, config.weights)
        mean_reward = float(rewards_of(model, answers).mean())
        fitted = differences_of(scorer, rows)
    else:
        task = _task(rows, examples)
        head, values = fit_frozen(scorer, [asked(row) for row in rows], task, config)
        fitted = values[0] - values[1]
        centred, mean_reward = True, centre(scorer, _distinct_mean(rows, values))
    model = scorer.model
    check_trained({"mean_reward": mean_reward}, config)
    margins = differences_of(scorer, held_out)
    metrics = {
        "held_out": evaluate_differences(margins, held_out),
        "bag_of_words": accuracy(word_margins(rows, held_out)).to_dict(),
        "tfidf": told_against(margins, tfidf_margins(rows, held_out)),
        "head": head,
        "train": evaluate_differences(fitted, rows),
        "mean_reward": mean_reward,
        "centred": centred,
        "comparisons": len(rows),
        "prompts": len({row.prompt for row in rows}),
        "cut": number_cut(scorer, rows),
        "template": scorer.template,
        "parameters": model.num_parameters(),
        "loss": losses,
        "examples": [
            {"prompt": asked(row), "chosen": row.chosen, "rejected": row.rejected}
            for row in spread_out(held_out)
        ],
        "config": asdict(config),
        "seconds": time.perf_counter() - started,
    }
    check_trained(metrics, config)
    return scorer, metrics


def check_preferences(preferences: Sequence[Preference]) -> None:
    """Refuses comparisons from which no order of answers can be learnt.

    Args:
        preferences: Rows to train on; `Preference` itself refuses empty and identical texts.

    Raises:
        TypeError: A row that is no `Preference`.
        ValueError: Too few rows, rows that contradict each other throughout, or one-sided ones: the
            same answer beats the same answer everywhere, or the answer shown first always wins.
    """
    for index, row in enumerate(preferences):
        if not isinstance(row, Preference):
            raise TypeError(f"preferences[{index}] must be a Preference, got {row!r:.80}")
    if len(preferences) < MINIMUM:
        raise ValueError(
            f"there are {len(preferences)} comparisons to train on, too few: at least {MINIMUM} "
            "are needed, and hundreds for a reward model that is worth something"
        )
    wins = Counter((row.prompt, row.chosen, row.rejected) for row in preferences)
    if all(wins[prompt, rejected, chosen] == n for (prompt, chosen, rejected), n in wins.items()):
        raise ValueError(
            f"the {len(preferences)} comparisons contradict each other throughout: every answer is "
            "as often rejected as chosen against the same other one, so there is nothing to learn"
        )
    if len({(row.chosen, row.rejected) for row in preferences}) == 1:
        raise ValueError(
            f"the comparisons are one-sided: all {len(preferences)} prefer the same answer "
            f"({preferences[0].chosen!r:.60}) to the same other one; compare different answers"
        )
    sides = {row.columns.get("shown_first") for row in preferences}
    if len(sides) == 1 and sides <= set(_SIDES):
        side = "first" if sides == {"chosen"} else "second"
        raise ValueError(
            f"the votes are one-sided: in all {len(preferences)} comparisons the answer that was "
            f"shown {side} won, so they say where raters look and not what they like; show the "
            "answers in random order"
        )


def differences_of(
    scorer: RewardModelScorer, preferences: Sequence[Preference]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Reward of the chosen answer less that of the rejected one.

    Args:
        scorer: Scorer of a reward model.
        preferences: N rows.

    Returns:
        float64 `(N,)`, as `llm_gym.feedback.reward_model.evaluation` takes it.
    """
    prompts = [asked(row) for row in preferences]
    answers = [row.chosen for row in preferences] + [row.rejected for row in preferences]
    values = scorer.rewards(prompts + prompts, answers)
    return values[: len(prompts)] - values[len(prompts) :]


def _encoded(
    rows: Sequence[Preference], scorer: RewardModelScorer, config: RewardModelConfig
) -> _Examples:
    import torch

    prompts = [asked(row) for row in rows]
    chosen = scorer.encode(prompts, [row.chosen for row in rows])
    rejected = scorer.encode(prompts, [row.rejected for row in rows])
    for encoded in (chosen, rejected):
        check_last_tokens(encoded, scorer.model.config.pad_token_id)
    alike = [index for index, row in enumerate(chosen) if row == rejected[index]]
    if alike:
        raise ValueError(
            f"the two answers of {len(alike)} comparisons become the same tokens, preferences"
            f"[{alike[0]}] for instance: they differ only in what the tokenizer cannot read or "
            f"max_length={scorer.max_length} cuts off; leave them out"
        )
    margins, weights = np.full(len(rows), config.margin), np.ones(len(rows))
    if config.margin_column:
        margins += _numbers_of(rows, config.margin_column, "margin_column")
    if config.weight_column:
        weights *= _numbers_of(rows, config.weight_column, "weight_column")
    # A tie has two rows, one in each direction; together they count as one comparison.
    weights[[row.columns.get("tie") is True for row in rows]] /= 2
    if not weights.any():
        raise ValueError(f"weight_column={config.weight_column!r} is 0 in every row")
    scale = weights[weights > 0].mean()
    return _Examples(
        chosen,
        rejected,
        torch.tensor(margins, dtype=torch.float32),
        torch.tensor(weights / scale, dtype=torch.float32),
    )


def _loss(
    scorer: RewardModelScorer, examples: _Examples, batch: list[int], config: RewardModelConfig
) -> torch.Tensor:
    rows = [examples.chosen[i] for i in batch] + [examples.rejected[i] for i in batch]
    chosen, rejected = rewards(scorer.model, rows).chunk(2)  # (B,), (B,)
    device = chosen.device
    # Not the weighted mean over the batch: a batch of light rows must count less than another.
    weights = examples.weights[batch].to(device)
    margin = examples.margins[batch].to(device)
    share = weights.sum() / len(batch)
    if not share > 0:
        return chosen.sum() * 0
    loss = bradley_terry_loss(chosen, rejected, margin=margin, weights=weights)
    if config.center_rewards_coefficient:
        penalty = centring_penalty(chosen, rejected, weights)
        loss = loss + config.center_rewards_coefficient * penalty
    return share * loss


def _task(rows: Sequence[Preference], examples: _Examples) -> Task:
    """The comparisons as `frozen.fit_frozen` takes them."""
    return Task(
        sides=([row.chosen for row in rows], [row.rejected for row in rows]),
        values=examples.margins.numpy().astype(np.float64),
        trust=examples.weights.numpy().astype(np.float64),
        groups=[row.prompt for row in rows],
    )


def _distinct_mean(rows: Sequence[Preference], values: NDArray[np.float64]) -> float:
    """Mean reward of all training answers, each counted once however often it was compared."""
    pairs = [(asked(row), row.chosen) for row in rows] + [
        (asked(row), row.rejected) for row in rows
    ]
    return float(np.mean([*dict(zip(pairs, values.ravel().tolist(), strict=True)).values()]))


def _distinct(examples: _Examples) -> list[Row]:
    """Every training answer once, however often it was compared."""
    rows = {tuple(row["input_ids"]): row for row in (*examples.chosen, *examples.rejected)}
    return list(rows.values())


def _numbers_of(preferences: Sequence[Preference], column: str, what: str) -> list[float]:
    """A column of finite numbers of at least 0; `what` is the setting that named it."""
    values = []
    for index, row in enumerate(preferences):
        value: Any = row.columns.get(column)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value < float("inf"):
            raise ValueError(
                f"{what}={column!r}: every row needs a number of at least 0 in this column, "
                f"preferences[{index}] has {value!r}"
            )
        values.append(float(value))
    return values
