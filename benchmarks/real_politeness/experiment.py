"""One seed: held-out answers before, training, held-out answers after, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.real_politeness.settings import Settings

if TYPE_CHECKING:
    from llm_gym.runs.evaluation import Evaluation


def run_seed(job: dict[str, Any]) -> dict[str, Any]:
    """Trains and measures, in a process of its own, whose peak of memory is the seed's.

    Args:
        job: `settings` (of `Settings`), `model` (a directory), `seed`, `second` (name of the
            scorer that is not trained on; empty for none) and `output` (a directory;
            its `model/` is the trained adapter).

    Returns:
        `before` and `after` (see `look`), the curve of training, its seconds and the peak in GB.
    """
    from pathlib import Path

    from benchmarks.systems.base import peak_memory_mb
    from llm_gym.runs.checkpoint import save_model
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.stages.by_name import environment_kwargs
    from llm_gym.stages.train import TrainConfig, build_algorithm
    from llm_gym.stages.training_run import run

    settings, model, seed = Settings(**job["settings"]), job["model"], job["seed"]
    config = TrainConfig(**settings.training(model, seed)).resolved()
    algorithm: Any = build_algorithm(config)
    output = Path(job["output"])
    kwargs = environment_kwargs(config.env, model, max_new_tokens=settings.held_out_tokens)

    def answers() -> Evaluation:
        return evaluate(
            algorithm,
            config.env,
            env_kwargs=kwargs,
            max_prompts=settings.held_out_requests,
            seed=seed,
        )

    before = answers()
    cpu, wall = time.process_time(), time.perf_counter()
    training = run(
        algorithm,
        config.total_tokens,
        output,
        checkpoint_every=settings.updates,
        keep_last=1,
    )
    if training.stopped:
        raise RuntimeError("interrupted: the seed starts anew with the same command")
    seconds = {
        "training_cpu_seconds": time.process_time() - cpu,
        "training_wall_seconds": time.perf_counter() - wall,
    }
    save_model(algorithm, output / "model")
    after = answers()
    peak = peak_memory_mb() / 1e3  # before the second scorer comes, which is no part of training
    base, second = algorithm.reference.model, job["second"]
    return {
        "before": look(before, base, second),
        "after": look(after, base, second),
        "curve": training.history.curve("rollout/ep_rew_mean")[1],
        "divergence": training.history.curve("rollout/kl_per_sequence")[1],
        "peak_gb": peak,
        **seconds,
    }


def look(evaluation: Evaluation, base: Any, second: str) -> dict[str, Any]:
    """What is kept of held-out answers.

    Args:
        evaluation: One answer to each request.
        base: The model before training.
        second: Name of the scorer that is not trained on; empty for none.

    Returns:
        `politeness` and `second` of each answer, `perplexity` under the base, mean `tokens`, the
        shares that `ended` by themselves and are of `different_phrases`, `gaps` like "[Name]" an
        answer, and the `answers`.
    """
    from llm_gym.runs.evaluation import perplexity_under
    from llm_gym.scorers.by_name import scorer_from_name

    prompts = [row.prompt for row in evaluation.rows]
    texts = [row.completion for row in evaluation.rows]
    scores = np.array(scorer_from_name(second)(prompts, texts) if second else [], dtype=float)
    return {
        "politeness": [row.score for row in evaluation.rows],
        "second": scores.tolist(),
        "perplexity": perplexity_under(base, evaluation.rows),
        "tokens": evaluation.mean_length,
        "ended": evaluation.share_ended,
        "different_phrases": different_phrases(texts),
        "gaps": sum(text.count("[") for text in texts) / len(texts),
        "answers": [
            {"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)
        ],
    }


def different_phrases(texts: Sequence[str], words: int = 4) -> float:
    """Share of all runs of four words, in all texts, that are different ones; 1 without any.

    Answers that are all alike have few.

    Args:
        texts: Answers.
        words: Words of a run.
    """
    phrases: list[tuple[str, ...]] = []
    for text in texts:
        said = text.lower().split()
        phrases += [tuple(said[place : place + words]) for place in range(len(said) - words + 1)]
    return len(set(phrases)) / len(phrases) if phrases else 1.0
