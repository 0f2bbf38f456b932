"""The work of the five stages. Each takes the directory of the run, and returns its figures.

A stage that was killed goes on from what it has: models appear whole, so pre-training, fine-tuning
and the reward model are repeated from their start; comparisons and votes are in the store; PPO
continues its last checkpoint exactly.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.feedback.reward_model.comparisons import RewardModelConfig
from llm_gym.stages.compare import CompareConfig, compare
from llm_gym.stages.rlhf.data import Prompts, pairs_of, prompts_of, write_prompts
from llm_gym.stages.rlhf.directory import RLHFDirectory
from llm_gym.stages.rlhf.results import answer_held_out, held_out_env, judge_against_gold
from llm_gym.stages.rlhf.settings import HELD_OUT_VOTES, RLHFConfig
from llm_gym.stages.train import TrainConfig, build_algorithm, check_memory, share_base
from llm_gym.stages.training_run import run as run_algorithm
from llm_gym.supervised.pretrain import PretrainConfig, pretrain
from llm_gym.supervised.sft import SFTConfig, fine_tune

if TYPE_CHECKING:
    from llm_gym.feedback.diagnostics import OveroptimisationAlarm
    from llm_gym.feedback.preferences import Preference
    from llm_gym.feedback.reward_model import RewardModelScorer

_HELD_OUT_DOCUMENTS = 300  # of generated text, at most


def _pretrain_stage(run: RLHFDirectory, quiet: bool) -> dict[str, Any]:
    """Trains a language model from scratch (`base/`), unless the run starts from another one.

    Returns:
        Held-out `perplexity` with `perplexity_before` and `bits_per_byte` (None without
        pre-training), `parameters`, `tokens_seen`, `loss`, and the figures of `answer_held_out`.
    """
    prompts = prompts_of(run.config)
    _check_inputs(run.config, prompts)
    write_prompts(prompts, run)
    metrics: dict[str, Any] = {}
    if run.config.start_from is None:
        metrics = _pretrained(run, quiet)
    _, figures = answer_held_out(run, "pretrain", run.first_model, quiet=quiet)
    return {
        "perplexity_before": metrics.get("held_out_perplexity_before"),
        "perplexity": metrics.get("held_out_perplexity"),
        "bits_per_byte": metrics.get("held_out_bits_per_byte"),
        "parameters": metrics.get("parameters"),
        "tokens_seen": metrics.get("tokens_seen"),
        "loss": metrics.get("loss"),
        **figures,
    }


def _check_inputs(config: RLHFConfig, prompts: Prompts) -> None:
    """What later stages would refuse of files, scorers and numbers, said before the first works."""
    from llm_gym.scorers.by_name import scorer_from_name

    config.check_votes(len(prompts.train))
    if config.start_from is not None:
        ppo = config.config_of(TrainConfig, model=config.start_from)
        check_memory(ppo, frozen=bool(config.lora_rank) or ppo.trains_adapter)
    scorer_from_name(config.true_rater, config.device)
    if config.pairs is not None:
        pairs_of(config, prompts.held_out)


def _pretrained(run: RLHFDirectory, quiet: bool) -> dict[str, Any]:
    from llm_gym.polite_email import documents

    config, seed = run.config.config_of(PretrainConfig), run.config.seed
    if run.config.text is not None:
        return pretrain(run.config.text, run.base, config, quiet=quiet)
    number = run.config.documents
    return pretrain(
        documents("train", number, seed=seed),
        run.base,
        config,
        held_out=documents("test", min(_HELD_OUT_DOCUMENTS, number), seed=seed),
        quiet=quiet,
    )


def _fine_tune_stage(run: RLHFDirectory, quiet: bool) -> dict[str, Any]:
    """Teaches the model to answer instructions (`sft/`).

    Returns:
        Held-out `perplexity` of the answers with `perplexity_before`, `own_perplexity` of what the
        model itself samples, `pairs`, `loss`, and the figures of `answer_held_out`.
    """
    from llm_gym.language_models import load_causal_lm
    from llm_gym.runs.evaluation import perplexity_under

    pairs = pairs_of(run.config, prompts_of(run.config).held_out)
    metrics = fine_tune(
        run.first_model,
        pairs.train,
        run.sft,
        run.config.config_of(SFTConfig),
        held_out=pairs.held_out,
        quiet=quiet,
    )
    evaluation, figures = answer_held_out(run, "sft", run.sft, quiet=quiet)
    return {
        "perplexity_before": metrics["held_out_answer_perplexity_before"],
        "perplexity": metrics["held_out_answer_perplexity"],
        "own_perplexity": perplexity_under(
            load_causal_lm(run.sft, dtype=run.config.dtype), evaluation.rows
        ),
        "pairs": metrics["pairs"],
        "loss": metrics["loss"],
        **figures,
    }


def _compare_stage(run: RLHFDirectory, quiet: bool) -> dict[str, Any] | None:
    """Collects comparisons of the fine-tuned model's answers and votes on them (`comparisons.db`).

    Returns:
        Figures of `votes.vote_figures`; None while people have not yet given enough votes.
    """
    figures = compare(
        run.store,
        run.config.config_of(CompareConfig, model=str(run.sft)),
        prompts=prompts_of(run.config).train,
        quiet=quiet,
    )
    if run.config.raters == "people" and votes_wanted(run.config, figures) > 0:
        return None
    return figures


def votes_wanted(config: RLHFConfig, figures: dict[str, Any]) -> int:
    """How many votes of people are still missing.

    Args:
        config: Settings of the run.
        figures: Figures of `votes.vote_figures`.
    """
    if config.enough_votes is not None:
        return max(config.enough_votes - int(figures["votes"]), 0)
    return int(figures["votes_missing"])


def _reward_model_stage(run: RLHFDirectory, quiet: bool) -> dict[str, Any]:
    """Trains a reward model on the votes (`reward-model/`).

    Returns:
        On votes about held-out prompts: `accuracy` with `accuracy_low` and `accuracy_high`,
        that of a `bag_of_words`, `log_loss`, `calibration_error`, `temperature`, the `calibration`
        curve; `gold_accuracy`, how often it prefers the answer with the higher gold score, and
        `votes_by_gold`, how often the votes themselves do. `votes` it learnt from and `held_out`
        ones, together those that stage 3 counted, and `loss`.

    Raises:
        ValueError: Too few or one-sided votes, or votes of stage 3 were taken back.
    """
    from llm_gym.feedback.preferences.files import split_preferences
    from llm_gym.feedback.preferences.tally import number_of_votes
    from llm_gym.feedback.reward_model import RewardModelScorer, train_reward_model

    config = run.config.config_of(
        RewardModelConfig,
        model=str(run.sft),
        held_out_share=HELD_OUT_VOTES,
        contradictions="keep",
        too_long="truncate",  # answers of the policy, for which it is too late to be an error
    )
    kept, held_out = split_preferences(run.counted_votes(), config.held_out_share, config.seed)
    metrics = train_reward_model(kept, run.reward_model, config, held_out=held_out, quiet=quiet)
    measured = metrics["held_out"]
    scorer = RewardModelScorer(run.reward_model, device=run.config.torch_device)
    return {
        "votes": number_of_votes(kept),
        "held_out": number_of_votes(held_out),
        "accuracy": measured["accuracy"]["value"],
        "accuracy_low": measured["accuracy"]["low"],
        "accuracy_high": measured["accuracy"]["high"],
        "bag_of_words": metrics["bag_of_words"]["value"],
        "log_loss": measured["log_loss"],
        "calibration_error": measured["calibration_error"],
        "temperature": measured["temperature"],
        "calibration": measured["calibration"],
        "loss": metrics["loss"],
        **_against_gold(run.config, scorer, held_out),
    }


def _against_gold(
    config: RLHFConfig, scorer: RewardModelScorer, held_out: list[Preference]
) -> dict[str, float | None]:
    """How reward model and votes agree with the gold score, bias and noise of raters apart."""
    from llm_gym.feedback.reward_model import differences_of
    from llm_gym.scorers.by_name import scorer_from_name

    gold = scorer_from_name(config.true_rater, config.device)
    prompts = [row.prompt for row in held_out]
    chosen, rejected = (
        np.asarray(gold(prompts, [getattr(row, side) for row in held_out]), dtype=np.float64)
        for side in ("chosen", "rejected")
    )
    return {
        "gold_accuracy": judge_against_gold(differences_of(scorer, held_out), chosen - rejected),
        "votes_by_gold": judge_against_gold(np.ones(len(held_out)), chosen - rejected),
    }


def _ppo_stage(run: RLHFDirectory, quiet: bool) -> dict[str, Any] | None:
    """Trains the fine-tuned model against the reward model (`ppo/`, and `model/` at its end).

    From the last checkpoint, or from the beginning. The gold score is measured beside the reward on
    held-out prompts.

    Returns:
        `tokens`, `kl` of whole answers to the fine-tuned model in nats, `perplexity` of the answers
        under it, and the figures of `answer_held_out`; None if training was interrupted, with a
        checkpoint.
    """
    from rich.console import Console

    from llm_gym.language_models import load_causal_lm
    from llm_gym.language_models.adapters import adapter_of, share_weights
    from llm_gym.runs.checkpoint import load_checkpoint, resume_point, save_model
    from llm_gym.runs.directory import CHECKPOINTS
    from llm_gym.runs.evaluation import perplexity_under, sequence_kl

    config = run.config.config_of(
        TrainConfig,
        model=str(run.sft),
        scorer=f"reward:{run.reward_model}",
        prompts=str(run.prompts("train")),
        prompt_column=None,  # the run's own file has the usual one
    )
    algorithm = build_algorithm(config)
    checkpoint = resume_point(run.ppo / CHECKPOINTS)
    if checkpoint is not None:
        load_checkpoint(algorithm, checkpoint)
    training = run_algorithm(
        algorithm,
        config.total_tokens,
        run.ppo,
        checkpoint_every=config.checkpoint_every,
        keep_last=config.keep_last,
        console=Console(file=io.StringIO()) if quiet else None,
        callbacks=[_watch(run, algorithm)],
    )
    if training.stopped:
        return None
    save_model(algorithm, run.model)
    evaluation, figures = answer_held_out(run, "ppo", algorithm, quiet=quiet)
    fine_tuned = load_causal_lm(run.sft, dtype=run.config.dtype).to(algorithm.device)
    if adapter_of(fine_tuned) is not None:
        share_weights(fine_tuned, algorithm.policy.model)
    return {
        "tokens": algorithm.num_timesteps,
        "kl": sequence_kl(algorithm.policy.model, fine_tuned, evaluation.rows),
        "perplexity": perplexity_under(fine_tuned, evaluation.rows),
        **figures,
    }


def _watch(run: RLHFDirectory, algorithm: Any) -> OveroptimisationAlarm:
    from llm_gym.feedback.diagnostics import HeldOutMeasure, OveroptimisationAlarm
    from llm_gym.feedback.reward_model import RewardModelScorer
    from llm_gym.scorers.by_name import scorer_from_name

    config = run.config
    kwargs = held_out_env(run, str(run.sft))
    kwargs.pop("scorer")
    proxy = RewardModelScorer(run.reward_model, device=config.torch_device)
    share_base(proxy, algorithm)
    measure = HeldOutMeasure(
        kwargs,
        proxy,
        scorer_from_name(config.true_rater, config.device),
        seed=config.seed,
    )
    return OveroptimisationAlarm(
        measure, every=config.look_every, directory=run.ppo / "watch", seed=config.seed
    )


WORK: dict[str, Callable[[RLHFDirectory, bool], dict[str, Any] | None]] = {
    "pretrain": _pretrain_stage,
    "sft": _fine_tune_stage,
    "compare": _compare_stage,
    "reward-model": _reward_model_stage,
    "ppo": _ppo_stage,
}
"""By name: takes the directory and whether to be quiet; None if the stage is not finished."""
