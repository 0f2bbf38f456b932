"""PPO against the reward model, with the gold score beside it on prompts held out."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from llm_gym.runs.directory import CHECKPOINTS
from llm_gym.stages.rlhf.measuring import answer_held_out, held_out_env
from llm_gym.stages.train import build_ppo, run

if TYPE_CHECKING:
    from llm_gym.feedback.diagnostics import OveroptimisationAlarm
    from llm_gym.stages.rlhf.records import Places
    from llm_gym.stages.rlhf.settings import RLHFConfig

__all__ = ["optimise", "read_looks"]


def optimise(settings: RLHFConfig, places: Places, *, quiet: bool = False) -> dict[str, Any] | None:
    """Trains from the last checkpoint, or from the beginning, to the end.

    Args:
        settings: Settings of the run.
        places: Places of the run; fine-tuned and reward model are there.
        quiet: Show nothing while training.

    Returns:
        Figures of the stage; None if training was interrupted, with a checkpoint.
    """
    from rich.console import Console

    from llm_gym.language_models import load_causal_lm
    from llm_gym.runs.checkpoint import latest_checkpoint, load_checkpoint, save_model
    from llm_gym.runs.evaluation import perplexity_under, sequence_kl

    training = settings.training(str(places.sft), str(places.reward_model), places.prompts("train"))
    algorithm = build_ppo(training)
    if (places.ppo / CHECKPOINTS).exists() and any((places.ppo / CHECKPOINTS).glob("step-*")):
        load_checkpoint(algorithm, latest_checkpoint(places.ppo))
    else:
        (places.ppo / "samples.jsonl").unlink(missing_ok=True)
    training_run = run(
        algorithm,
        settings.total_tokens,
        places.ppo,
        checkpoint_every=settings.checkpoint_every,
        keep_last=training.keep_last,
        console=Console(file=io.StringIO()) if quiet else None,
        callbacks=[_watch(settings, places)],
    )
    if training_run.stopped:
        return None
    save_model(algorithm, places.model)
    found, answers = answer_held_out(settings, places, "ppo", algorithm)
    fine_tuned = load_causal_lm(places.sft).to(algorithm.device)
    return {
        "tokens": algorithm.num_timesteps,
        "kl": sequence_kl(algorithm.policy.model, fine_tuned, found.rows),
        "perplexity": perplexity_under(fine_tuned, found.rows),
        **answers,
    }


def read_looks(places: Places) -> list[dict[str, Any]]:
    """Gold score and reward on the held-out prompts in the course of training.

    Returns:
        Rows with `step` (tokens), `gold` and `proxy` (lists, one number a prompt) and `kl` (None
        before the first rollout), one a step.
    """
    path = places.ppo / "watch" / "looks.jsonl"
    looks = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    # A run that was killed after its last checkpoint looks again; the first look knew the KL.
    return list({look["step"]: look for look in reversed(looks)}.values())[::-1]


def _watch(settings: RLHFConfig, places: Places) -> OveroptimisationAlarm:
    from llm_gym.feedback.diagnostics import HeldOutMeasure, OveroptimisationAlarm
    from llm_gym.feedback.reward_model import RewardModelScorer
    from llm_gym.stages.names import scorer_from_name

    kwargs = held_out_env(settings, places, str(places.sft))
    kwargs.pop("scorer")
    measure = HeldOutMeasure(
        kwargs,
        RewardModelScorer(places.reward_model, device=settings.torch_device),
        scorer_from_name(settings.true_rater, settings.device),
        seed=settings.seed,
    )
    return OveroptimisationAlarm(
        measure, every=settings.look_every, directory=places.ppo / "watch", seed=settings.seed
    )
