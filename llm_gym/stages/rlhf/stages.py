"""The five stages. Each takes the settings of the run and its directory, and returns its record.

A stage that is finished is not done again. One that was killed goes on from what it has: models
appear whole, so pre-training, fine-tuning and the reward model are repeated from their start;
comparisons and votes are in the store; PPO continues its last checkpoint exactly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.files.atomic import recover_directory
from llm_gym.stages.compare import compare
from llm_gym.stages.rlhf.data import pairs_of, prompts_of, write_prompts
from llm_gym.stages.rlhf.measuring import answer_held_out, judge_against_gold
from llm_gym.stages.rlhf.records import Places, Record, once
from llm_gym.stages.rlhf.settings import RLHFConfig
from llm_gym.supervised.pretrain import pretrain
from llm_gym.supervised.sft import fine_tune

if TYPE_CHECKING:
    from llm_gym.feedback.preferences import Preference
    from llm_gym.feedback.reward_model import RewardModelScorer

__all__ = [
    "compare_stage",
    "fine_tune_stage",
    "ppo_stage",
    "pretrain_stage",
    "reward_model_stage",
]

_HELD_OUT_DOCUMENTS = 300  # of generated text, at most


def pretrain_stage(
    settings: RLHFConfig, output: str | Path, *, quiet: bool = False
) -> Record | None:
    """Trains a language model from scratch (`base/`), unless the run starts from another one.

    Args:
        settings: Settings of the run.
        output: Its directory.
        quiet: No progress bar.

    Returns:
        The record. Its figures: held-out `perplexity` with `perplexity_before` and
        `bits_per_byte` (None without pre-training), `parameters`, `tokens_seen`, and those of
        `answer_held_out`.

    Raises:
        ValueError, FileNotFoundError: See `pretrain` and `begin`.
    """

    def work(places: Places) -> dict[str, Any]:
        write_prompts(prompts_of(settings), places)
        metrics: dict[str, Any] = {}
        if settings.start_from is None:
            metrics = _pretrain(settings, places, quiet)
        _, answers = answer_held_out(settings, places, "pretrain", _base(settings, places))
        return {
            "perplexity_before": metrics.get("held_out_perplexity_before"),
            "perplexity": metrics.get("held_out_perplexity"),
            "bits_per_byte": metrics.get("held_out_bits_per_byte"),
            "parameters": metrics.get("parameters"),
            "tokens_seen": metrics.get("tokens_seen"),
            "loss": metrics.get("loss"),
            **answers,
        }

    return once("pretrain", settings, output, work)


def fine_tune_stage(
    settings: RLHFConfig, output: str | Path, *, quiet: bool = False
) -> Record | None:
    """Teaches the model to answer instructions (`sft/`).

    Args:
        settings: Settings of the run.
        output: Its directory.
        quiet: No progress bar.

    Returns:
        The record. Its figures: held-out `perplexity` of the answers with `perplexity_before`,
        `own_perplexity` of what the model itself samples, `pairs`, `loss`, and those of
        `answer_held_out`.

    Raises:
        ValueError, FileNotFoundError: See `fine_tune` and `begin`.
    """

    def work(places: Places) -> dict[str, Any]:
        from llm_gym.language_models import load_causal_lm
        from llm_gym.runs.evaluation import perplexity_under

        pairs = pairs_of(settings, prompts_of(settings).held_out)
        recover_directory(places.sft)
        metrics = fine_tune(
            _base(settings, places),
            pairs.train,
            places.sft,
            settings.fine_tuning(),
            held_out=pairs.held_out,
            quiet=quiet,
        )
        found, answers = answer_held_out(settings, places, "sft", places.sft)
        return {
            "perplexity_before": metrics["held_out_answer_perplexity_before"],
            "perplexity": metrics["held_out_answer_perplexity"],
            "own_perplexity": perplexity_under(load_causal_lm(places.sft), found.rows),
            "pairs": metrics["pairs"],
            "loss": metrics["loss"],
            **answers,
        }

    return once("sft", settings, output, work)


def compare_stage(
    settings: RLHFConfig, output: str | Path, *, quiet: bool = False
) -> Record | None:
    """Collects comparisons of the fine-tuned model's answers and votes on them (`comparisons.db`).

    Args:
        settings: Settings of the run.
        output: Its directory.
        quiet: No progress bar.

    Returns:
        The record, its figures those of `compare.vote_figures`; None while people have not yet
        given enough votes (`votes_wanted`).

    Raises:
        ValueError: See `compare` and `begin`.
    """

    def work(places: Places) -> dict[str, Any] | None:
        figures = compare(
            settings.comparing(str(places.sft)),
            places.store,
            prompts=prompts_of(settings).train,
            quiet=quiet,
        )
        if settings.raters == "people" and votes_wanted(settings, figures) > 0:
            return None
        return figures

    return once("compare", settings, output, work)


def votes_wanted(settings: RLHFConfig, figures: dict[str, Any]) -> int:
    """How many votes of people are still missing.

    Args:
        settings: Settings of the run.
        figures: Figures of `compare.vote_figures`.
    """
    if settings.enough_votes is not None:
        return max(settings.enough_votes - int(figures["votes"]), 0)
    return int(figures["votes_missing"])


def reward_model_stage(
    settings: RLHFConfig, output: str | Path, *, quiet: bool = False
) -> Record | None:
    """Trains a reward model on the votes (`reward-model/`).

    Args:
        settings: Settings of the run.
        output: Its directory.
        quiet: No progress bar.

    Returns:
        The record. Its figures, on votes about held-out prompts: `accuracy` with `accuracy_low`
        and `accuracy_high`, `log_loss`, `calibration_error`, `temperature`, the `calibration`
        curve; `gold_accuracy`, how often it prefers the answer with the higher gold score, and
        `votes_by_gold`, how often the votes themselves do.

    Raises:
        ValueError: Too few or one-sided votes; see `train_reward_model` and `begin`.
    """

    def work(places: Places) -> dict[str, Any]:
        from llm_gym.feedback.preferences import PreferenceStore
        from llm_gym.feedback.preferences.files import split_preferences
        from llm_gym.feedback.reward_model import RewardModelScorer, train_reward_model

        config = settings.reward_model(str(places.sft))
        with PreferenceStore(places.store) as store:
            votes = store.preferences(ties="both", conflicts="all")
        kept, held_out = split_preferences(votes, config.held_out_share, config.seed)
        recover_directory(places.reward_model)
        metrics = train_reward_model(
            kept, places.reward_model, config, held_out=held_out, quiet=quiet
        )
        measured = metrics["held_out"]
        scorer = RewardModelScorer(places.reward_model, device=settings.torch_device)
        return {
            "comparisons": metrics["comparisons"],
            "held_out": measured["comparisons"],
            "accuracy": measured["accuracy"]["value"],
            "accuracy_low": measured["accuracy"]["low"],
            "accuracy_high": measured["accuracy"]["high"],
            "log_loss": measured["log_loss"],
            "calibration_error": measured["calibration_error"],
            "temperature": measured["temperature"],
            "calibration": measured["calibration"],
            "loss": metrics["loss"],
            **_against_gold(settings, scorer, held_out),
        }

    return once("reward-model", settings, output, work)


def ppo_stage(settings: RLHFConfig, output: str | Path, *, quiet: bool = False) -> Record | None:
    """Trains the fine-tuned model against the reward model (`ppo/`, and `model/` at its end).

    Args:
        settings: Settings of the run.
        output: Its directory.
        quiet: Show nothing while training.

    Returns:
        The record. Its figures: `tokens`, `kl` of whole answers to the fine-tuned model in nats,
        `perplexity` of the answers under it, and those of `answer_held_out`; None if it was
        interrupted, with a checkpoint.

    Raises:
        ValueError: A setting does not fit; see `begin`.
    """
    from llm_gym.stages.rlhf.optimising import optimise

    return once("ppo", settings, output, lambda places: optimise(settings, places, quiet=quiet))


def _pretrain(settings: RLHFConfig, places: Places, quiet: bool) -> dict[str, Any]:
    from llm_gym.polite_email import documents

    recover_directory(places.base)
    if settings.text is not None:
        return pretrain(settings.text, places.base, settings.pretraining(), quiet=quiet)
    return pretrain(
        documents("train", settings.documents, seed=settings.seed),
        places.base,
        settings.pretraining(),
        held_out=documents(
            "test", min(_HELD_OUT_DOCUMENTS, settings.documents), seed=settings.seed
        ),
        quiet=quiet,
    )


def _base(settings: RLHFConfig, places: Places) -> str:
    return str(places.base) if settings.start_from is None else settings.start_from


def _against_gold(
    settings: RLHFConfig, scorer: RewardModelScorer, held_out: list[Preference]
) -> dict[str, float | None]:
    """How reward model and votes agree with the gold score, bias and noise of raters apart."""
    from llm_gym.feedback.reward_model import differences_of
    from llm_gym.stages.names import scorer_from_name

    gold = scorer_from_name(settings.true_rater, settings.device)
    prompts = [row.prompt for row in held_out]
    chosen, rejected = (
        np.asarray(gold(prompts, [getattr(row, side) for row in held_out]), dtype=np.float64)
        for side in ("chosen", "rejected")
    )
    return {
        "gold_accuracy": judge_against_gold(differences_of(scorer, held_out), chosen - rejected),
        "votes_by_gold": judge_against_gold(np.ones(len(held_out)), chosen - rejected),
    }
