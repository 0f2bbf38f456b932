"""The demo: a small model that answers rudely learns to be polite, on a laptop, in minutes."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files import atomic
from llm_gym.files.page import duration, interval, spread_evenly
from llm_gym.files.ranges import POSITIVE, check_settings
from llm_gym.files.settings import config_from, defaults_of, setting
from llm_gym.runs.directory import RunDirectory
from llm_gym.stages.examples import MODEL, examples_of, training_charts
from llm_gym.stages.pages import PAGE, circumstances, closing, command_to_try
from llm_gym.stages.train import TrainConfig, build_algorithm
from llm_gym.stages.training_run import run

if TYPE_CHECKING:
    from rich.console import Console
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from llm_gym.runs.callbacks import History
    from llm_gym.runs.evaluation import Evaluation

STAGES = ("pre-trained", "fine-tuned", "trained by PPO")
SUMMARY = "summary.json"
_TRACE_EVERY = 8  # of some twenty iterations, which are large


@dataclass(frozen=True)
class DemoConfig:
    """What the demo does. Everything but the seed is chosen for two CPU cores and five minutes."""

    seed: int = setting(0, "seed of training and sampling")
    env: str = setting("llm_gym/PoliteEmail-v0", 'the task; its "test" prompts are held out')
    base_model: str = setting("llm_gym/email-base", "pre-trained on next-token prediction")
    model: str = setting("llm_gym/email-sft", "fine-tuned on instructions; the one that is trained")
    total_tokens: int = setting(100_000, "tokens to generate in training")
    num_envs: int = setting(64, "emails written at the same time")
    batch_size: int = setting(1024, "tokens per gradient step")
    n_epochs: int = setting(4, "passes over each rollout")
    learning_rate: float = setting(1e-4, "step size", POSITIVE)
    kl_coef: float = setting(1.0, "first penalty per nat of divergence from the fine-tuned model")
    kl_target: float | None = setting(None, "nats per email that the penalty steers to")
    eval_prompts: int | None = setting(None, "held-out prompts to evaluate on; None is all")
    shown_prompts: int = setting(6, "held-out prompts that are shown with the answers")
    checkpoint_every: int = setting(5, "iterations")

    def __post_init__(self) -> None:
        check_settings(self)
        self.training()

    def training(self) -> TrainConfig:
        """The same as settings of a training run."""
        return config_from(
            TrainConfig, vars(self), device="cpu", eval_prompts=None, trace_every=_TRACE_EVERY
        )


@dataclass(frozen=True)
class DemoRun:
    """How a call of `demo` ended.

    Attributes:
        stopped: Whether training was interrupted, with a checkpoint.
        summary: All figures; None if the end was not reached.
    """

    stopped: bool = False
    summary: dict[str, Any] | None = None


def demo(
    output: str | Path, config: DemoConfig | None = None, *, console: Console | None = None
) -> DemoRun:
    """Trains, and shows before and after.

    Writes `report.html`, `summary.json`, `model/` (a directory that `from_pretrained` loads, with
    the value head beside it), `metrics.jsonl`, `samples.jsonl` and `checkpoints/`. A demo that was
    interrupted goes on from its last checkpoint when it is called again.

    Args:
        output: Directory for the results; those of a finished demo are replaced.
        config: Settings; None means the defaults.
        console: Where the results are printed; None is standard output. The live display goes to
            standard error.

    Returns:
        How it ended.

    Raises:
        ValueError: The directory holds an unfinished demo with other settings.
    """
    from rich.console import Console

    config, console = config or DemoConfig(), console or Console()
    directory = RunDirectory(
        output, asdict(config), defaults=defaults_of(DemoConfig), command="demo"
    )
    with directory.opened():
        return _demo(directory, config, console)


def _demo(directory: RunDirectory, config: DemoConfig, console: Console) -> DemoRun:
    from llm_gym.runs.checkpoint import load_checkpoint, save_model
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.stages.by_name import environment_kwargs

    started, output = time.perf_counter(), directory.root
    checkpoint = _prepare(directory)
    algorithm = build_algorithm(config.training())
    if checkpoint is not None:
        load_checkpoint(algorithm, checkpoint)
        console.print(f"continuing the interrupted demo at {algorithm.num_timesteps:,} tokens")

    def held_out(model: str | OnPolicyAlgorithm) -> Evaluation:
        return evaluate(
            model,
            config.env,
            env_kwargs=environment_kwargs(config.env, config.model, split="test"),
            max_prompts=config.eval_prompts,
            num_envs=config.num_envs,
            seed=config.seed,
        )

    console.print(f"evaluating {config.base_model} and {config.model} on held-out prompts ...")
    before = [held_out(config.base_model), held_out(config.model)]
    training = run(
        algorithm,
        config.total_tokens,
        output,
        checkpoint_every=config.checkpoint_every,
        keep_last=1,
        trace_every=_TRACE_EVERY,
    )
    if training.stopped:
        directory.state = "stopped"
        return DemoRun(stopped=True)
    stages = [*before, held_out(algorithm)]
    save_model(algorithm, output / MODEL)
    summary = _summary(config, stages, algorithm, time.perf_counter() - started)
    _write_results(output, config, stages, training.history, summary)
    _print_results(console, output, config, stages, summary)
    return DemoRun(summary=summary)


def _prepare(directory: RunDirectory) -> Path | None:
    """Clears the way; the checkpoint of an unfinished demo to go on with, or None."""
    from llm_gym.files import owned
    from llm_gym.runs.checkpoint import KIND, numbered_checkpoints, resume_point

    summary = directory.root / SUMMARY
    if not summary.exists() and numbered_checkpoints(directory.checkpoints):
        directory.go_on(
            f"finish that one, choose another --output, or delete {directory.checkpoints}"
        )
        return resume_point(directory.checkpoints)
    # Results of a finished demo: the summary goes first, so that a half-cleared directory is not
    # taken for a finished one.
    summary.unlink(missing_ok=True)
    for checkpoint in numbered_checkpoints(directory.checkpoints):
        owned.remove_directory(checkpoint, KIND)
    directory.write_settings()
    return None


def _summary(
    config: DemoConfig, stages: list[Evaluation], algorithm: OnPolicyAlgorithm, seconds: float
) -> dict[str, Any]:
    from llm_gym.files.provenance import commit, machine, versions
    from llm_gym.language_models import load_causal_lm
    from llm_gym.runs.evaluation import perplexity_under, sequence_kl

    base, before, after = stages
    fine_tuned = load_causal_lm(config.model)
    perplexity_before = perplexity_under(fine_tuned, before.rows)
    perplexity_after = perplexity_under(fine_tuned, after.rows)
    return {
        "score_pretrained": base.mean_score,
        "score_before": before.mean_score,
        "score_before_interval": [before.low, before.high],
        "score_after": after.mean_score,
        "score_after_interval": [after.low, after.high],
        "perplexity_before": perplexity_before,
        "perplexity_after": perplexity_after,
        "perplexity_ratio": perplexity_after / perplexity_before,
        "kl": sequence_kl(algorithm.policy.model, fine_tuned, after.rows),
        "mean_length_before": before.mean_length,
        "mean_length_after": after.mean_length,
        "held_out_prompts": len(after.rows),
        "seconds": seconds,
        "tokens": algorithm.num_timesteps,
        "settings": asdict(config),
        "versions": versions(),
        "commit": commit(),
        "machine": machine(),
    }


def _write_results(
    output: Path,
    config: DemoConfig,
    stages: list[Evaluation],
    history: History,
    summary: dict[str, Any],
) -> None:
    from llm_gym.files import write_report

    for name, stage in zip(("pretrained", "fine-tuned", "trained"), stages, strict=True):
        atomic.write_json(output / "evaluations" / f"{name}.json", stage.to_dict())
    write_report(_report(config, stages, history, summary), output / PAGE)
    # Last, because its presence says that the demo is finished.
    atomic.write_json(output / SUMMARY, summary)


def _report(
    config: DemoConfig, stages: list[Evaluation], history: History, summary: dict[str, Any]
) -> Any:
    from llm_gym.files import Figure, Report

    before, after = stages[1], stages[2]
    return Report(
        title="A language model learns to be polite",
        summary=(
            f"{summary['tokens']:,} tokens of PPO on {config.env} took the mean score on "
            f"{len(after.rows)} held-out prompts from {before.mean_score:.1f} to "
            f"{after.mean_score:.1f} of 100."
        ),
        figures=(
            Figure("score before", f"{before.mean_score:.1f}", interval(before.low, before.high)),
            Figure("score after", f"{after.mean_score:.1f}", interval(after.low, after.high)),
            Figure(
                "perplexity ratio",
                f"{summary['perplexity_ratio']:.2f}",
                "of the answers, under the fine-tuned model",
            ),
            Figure("divergence", f"{summary['kl']:.1f} nats", "KL per answer"),
            Figure("time", duration(summary["seconds"]), f"{summary['machine']['cores']} cores"),
        ),
        charts=training_charts(history, before, "emails"),
        models=STAGES,
        comparisons=examples_of(stages, config.shown_prompts),
        sections=circumstances(asdict(config)),
    )


def _shown(stages: list[Evaluation], number: int) -> list[tuple[Any, ...]]:
    """The same few answers of every stage."""
    places = spread_evenly(number, len(stages[0].rows))
    return [tuple(stage.rows[place] for stage in stages) for place in places]


def _print_results(
    console: Console,
    output: Path,
    config: DemoConfig,
    stages: list[Evaluation],
    summary: dict[str, Any],
) -> None:
    from rich.panel import Panel

    from llm_gym.files.untrusted import as_rich

    for rows in _shown(stages, min(config.shown_prompts, 3)):
        console.rule(as_rich(rows[0].prompt, style="bold"), align="left")
        for name, row in zip(STAGES, rows, strict=True):
            title = f"{name}: score {row.score:.1f}"
            console.print(Panel(as_rich(row.completion.strip()), title=title, title_align="left"))
    for name, stage in zip(STAGES, stages, strict=True):
        low_to_high = interval(stage.low, stage.high)
        console.print(f"{name:<16} {stage.mean_score:6.1f} of 100   {low_to_high}")
    console.print(
        f"perplexity ratio {summary['perplexity_ratio']:.2f}, KL {summary['kl']:.1f} nats per "
        f"answer, {duration(summary['seconds'])}"
    )
    lines = closing(output, command_to_try(output / MODEL, stages[-1].rows[0].prompt))
    console.print(lines, soft_wrap=True, markup=False, highlight=False)
