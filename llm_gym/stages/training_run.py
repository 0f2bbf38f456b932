"""A run of an algorithm with everything a person needs, and what a finished one leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llm_gym.files import atomic
from llm_gym.parallel import world
from llm_gym.runs.directory import CHECKPOINTS, RunDirectory

if TYPE_CHECKING:
    from rich.console import Console
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.logger import KVWriter, Logger
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from llm_gym.runs.callbacks import CheckpointCallback, EvaluationCallback, History
    from llm_gym.runs.evaluation import Evaluation

BEST = "best"
"""The checkpoint of the best evaluation."""


@dataclass(frozen=True)
class TrainingRun:
    """What `run` leaves behind.

    Attributes:
        stopped: Whether it was interrupted before its end.
        checkpoint: The newest checkpoint.
        history: The logged figures.
        command: A command that tries the final model; empty where there is none.
        evaluations: Of held-out prompts, "before" and "after"; empty where there are none.
        best: A line that says which checkpoint had the best evaluation; empty if none was kept.
    """

    stopped: bool
    checkpoint: Path
    history: History
    command: str = ""
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    best: str = ""


def learn(
    algorithm: Any,
    directory: RunDirectory,
    total_tokens: int,
    *,
    checkpoint_every: int,
    keep_last: int,
    measure: Callable[..., Evaluation | None],
    eval_every: int = 0,
    keep_best: bool = False,
    trace_every: int | None = None,
    console: Console | None = None,
    trackers: Sequence[KVWriter] = (),
) -> TrainingRun:
    """`run`, held-out prompts before and after, and what a finished run leaves for people.

    Args:
        algorithm: See `run`.
        directory: Of the run, opened; its settings have `env`, `model` and `total_tokens`.
        total_tokens: See `run`.
        checkpoint_every: See `run`.
        keep_last: See `run`.
        measure: Evaluates the model of a name, or the algorithm, `progress_bar` or not; None where
            there is nothing to measure on.
        eval_every: Iterations between two evaluations in the course of training; 0 for none.
        keep_best: Keep the checkpoint of the best of them and of the last in `best/`.
        trace_every: See `run`.
        console: See `run`.
        trackers: See `run`.

    Returns:
        How it ended. Unless it was stopped there are `model/`, `report.html` and, if something was
        measured, `evaluation.json`. Of several processes the first evaluates and writes.

    Raises:
        DivergenceError: See `run`.
        ValueError: `eval_every` or `keep_best` has nothing to measure on, or no time to.
    """
    from llm_gym.runs.checkpoint import save_model
    from llm_gym.stages.pages import MODEL, command_to_try, training_page

    processes = world()
    shows = console is None or not console.quiet
    model = directory.settings["model"]
    before = measure(model, progress_bar=shows) if processes.rank == 0 else None
    has_prompts = processes.of_first(before is not None)
    watch = _watch(directory, measure, eval_every, keep_best, has_prompts=has_prompts)
    training = run(
        algorithm,
        total_tokens,
        directory.root,
        checkpoint_every=checkpoint_every,
        keep_last=keep_last,
        trace_every=trace_every,
        console=console,
        callbacks=[] if watch is None else [watch],
        trackers=trackers,
    )
    best = _told_best(directory.root / BEST)
    if training.stopped:
        directory.state = "stopped"
    if training.stopped or processes.rank:
        return replace(training, best=best)
    after = measure(algorithm, progress_bar=shows) if watch is None else watch.latest
    evaluations = {"before": before, "after": after} if before and after else {}
    saved = save_model(algorithm, directory.root / MODEL)
    settings = {"algorithm": type(algorithm).__name__, **directory.settings}
    training_page(directory.root, settings, training.history, evaluations)
    if evaluations:
        rows = {when: evaluation.to_dict() for when, evaluation in evaluations.items()}
        atomic.write_json(directory.root / "evaluation.json", rows)
    prompts = [info["prompt"] for info in algorithm.env.reset_infos if "prompt" in info]
    command = command_to_try(saved, prompts[0] if prompts else "")
    return replace(training, command=command, evaluations=evaluations, best=best)


def _watch(
    directory: RunDirectory,
    measure: Callable[..., Evaluation | None],
    eval_every: int,
    keep_best: bool,
    *,
    has_prompts: bool,
) -> EvaluationCallback | None:
    from llm_gym.runs.callbacks import EvaluationCallback

    if keep_best and not eval_every:
        raise ValueError("keep_best needs evaluations to choose from: set eval_every to 1 or more")
    if not eval_every:
        return None
    if not has_prompts:
        raise ValueError(
            f"eval_every={eval_every} has no held-out prompts to measure on: give eval_prompts"
        )
    best = directory.root / BEST if keep_best else None
    return EvaluationCallback(cast("Any", measure), every=eval_every, best=best)


def _told_best(directory: Path) -> str:
    from llm_gym.runs.callbacks.evaluations import read_evaluation

    found = read_evaluation(directory)
    if found is None:
        return ""
    return (
        f"best:   score {found['mean_score']:.4g} at {found['step']:,} tokens, kept in {directory}"
    )


def run(
    algorithm: OnPolicyAlgorithm,
    total_tokens: int,
    output: Path,
    *,
    checkpoint_every: int,
    keep_last: int,
    trace_every: int | None = None,
    console: Console | None = None,
    callbacks: Sequence[BaseCallback] = (),
    trackers: Sequence[KVWriter] = (),
) -> TrainingRun:
    """Runs an algorithm to `total_tokens`, from wherever it stands, with everything a person needs.

    Live display, `metrics.jsonl`, `samples.jsonl`, `trace/`, TensorBoard if it is installed,
    checkpoints, one of the beginning of a rollout that failed, and a first Ctrl-C that stops after
    the iteration with a checkpoint.

    Args:
        algorithm: New, or restored from a checkpoint; its policy a `TransformerActorCriticPolicy`.
        total_tokens: Where to stop, counted from the very beginning of the run.
        output: Directory for all of that.
        checkpoint_every: Iterations between checkpoints.
        keep_last: Checkpoints to keep.
        trace_every: Iterations between two looks at single tokens; 0 takes none, None is what
            `TokenTrace` finds right.
        console: Where the live display goes; None is standard error.
        callbacks: Further ones; what they write at the start of a rollout is on the disk before the
            checkpoint of that moment.
        trackers: Where figures go besides; closed at the end.

    Returns:
        How it ended.

    Raises:
        DivergenceError: Training has left the numbers. The checkpoints are from before.
    """
    from rich.console import Console
    from stable_baselines3.common.logger import Logger

    from llm_gym.learning.joined import joined
    from llm_gym.runs.callbacks import (
        CheckpointCallback,
        DivergenceCallback,
        History,
        ProgressCallback,
        SampleCallback,
        ThroughputCallback,
        TokenTrace,
        stop_on_signals,
    )
    from llm_gym.runs.logs import LOGS, cut_back

    start = algorithm.num_timesteps
    if world().rank == 0:
        output.mkdir(parents=True, exist_ok=True)
        cut_back(output, LOGS, start)
        history = History(output / "metrics.jsonl", resume_at=start or None)
        algorithm.set_logger(_logger(output, history, trackers))
        samples = SampleCallback(path=output / "samples.jsonl")
    else:
        history, samples, console = History(), SampleCallback(), Console(quiet=True)
        algorithm.set_logger(Logger(None, []))
    checkpoints = CheckpointCallback(
        output / CHECKPOINTS, every=checkpoint_every, keep_last=keep_last, logs=LOGS
    )
    trace = None if trace_every == 0 else TokenTrace(output, every=trace_every)
    with (
        joined(algorithm),
        ProgressCallback(samples, console) as progress,
        stop_on_signals(checkpoints, progress.note),
        _saying_what_is_kept(algorithm, checkpoints.directory),
        _keeping_what_was_before(checkpoints, progress.console),
    ):
        watching = [DivergenceCallback(), ThroughputCallback(), samples, progress]
        watching += [] if trace is None else [trace]
        algorithm.learn(
            total_tokens - start,  # below 0 if the end was passed: the total stays what it was
            callback=[checkpoints.at_rollout_start(), *watching, *callbacks, checkpoints],
            log_interval=1,  # of A2C it is 100, counted anew where a run goes on
            # Not by the step: a run may have been stopped before its first.
            reset_num_timesteps=algorithm._last_obs is None,
        )
        if trace is not None and not checkpoints.stopped:
            trace.finish()
    algorithm.logger.dump(algorithm.num_timesteps)  # the last update's figures
    algorithm.logger.close()
    assert checkpoints.saved is not None
    return TrainingRun(checkpoints.stopped, checkpoints.saved, history)


@contextmanager
def _keeping_what_was_before(checkpoints: CheckpointCallback, console: Console) -> Iterator[None]:
    """Saves a run whose rollout fails, by a world or a scorer say, as it was before that."""
    from llm_gym.files.disk import has_failed
    from llm_gym.runs.divergence import DivergenceError

    try:
        yield
    except Exception as error:
        if not isinstance(error, DivergenceError) and not has_failed(error):
            kept = checkpoints.save_beginning()
            if kept is not None:
                said = f"an error ends this run; it goes on, with --resume, from {kept}"
                console.print(said, markup=False, highlight=False, soft_wrap=True)
        raise


@contextmanager
def _saying_what_is_kept(algorithm: OnPolicyAlgorithm, checkpoints: Path) -> Iterator[None]:
    """Has a run that diverges leave a gap in its curves, and say where to go on from."""
    from llm_gym.learning.divergence import explained
    from llm_gym.runs.checkpoint import has_checkpoint, latest_checkpoint
    from llm_gym.runs.divergence import DivergenceError

    try:
        with explained(algorithm):
            yield
    except DivergenceError as error:
        algorithm.logger.record("train/loss", math.nan)
        algorithm.logger.dump(algorithm.num_timesteps)
        algorithm.logger.close()
        kept = "no checkpoint had been saved yet"
        if has_checkpoint(checkpoints):
            kept = f"the last checkpoint, {latest_checkpoint(checkpoints)}, is from before"
        raise DivergenceError(error.what, error.advice, kept) from None


def _logger(output: Path, history: History, trackers: Sequence[KVWriter]) -> Logger:
    """Figures to memory and `metrics.jsonl`, and to TensorBoard where that is installed."""
    from stable_baselines3.common import logger

    formats: list[Any] = [history, *trackers]
    if logger.SummaryWriter is not None:
        formats.append(logger.TensorBoardOutputFormat(str(output / "tensorboard")))
    return logger.Logger(folder=str(output), output_formats=formats)
