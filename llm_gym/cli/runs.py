"""The commands that train: `demo`, `train`, `pretrain`, `sft` and `dpo`."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from llm_gym.cli.command import is_given
from llm_gym.cli.config_file import command_directory, leaving_config
from llm_gym.cli.options import Output, Seed, with_options_of
from llm_gym.cli.processes import start
from llm_gym.feedback.dpo.dpo import DPOConfig
from llm_gym.parallel import number_started, world
from llm_gym.stages.train import TrainConfig
from llm_gym.supervised.pretrain import PretrainConfig
from llm_gym.supervised.sft import SFTConfig

DPO_EXAMPLES = """\
From the votes of `llm-gym label`, or from a file in TRL's format:

\b
  llm-gym dpo votes.db --output runs/dpo
  llm-gym dpo preferences.jsonl --model my-model --beta 0.05
  llm-gym dpo preferences.jsonl --loss ipo"""

INTERRUPTED = 130  # exit status, a shell's for SIGINT


# ------------------------------------------------------------------ reinforcement learning


def demo(
    invocation: typer.Context,
    seed: Seed = 0,
    output: Output = Path("runs/demo"),
) -> None:
    """Teach the built-in model politeness by PPO and write a report (minutes, offline)."""
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.demo import DemoConfig, demo

    quiet_libraries()
    command = f"llm-gym demo --seed {seed} --output {shlex.quote(str(output))}"
    how_to_go_on = f"stopped; the same command goes on from the last checkpoint: {command}"
    with interruptible(how_to_go_on), leaving_config(invocation, output):
        run = demo(output, DemoConfig(seed=seed))
    if run.stopped:
        end_interrupted(how_to_go_on)


@with_options_of(TrainConfig)
def train(
    invocation: typer.Context,
    output: Output = Path("runs/train"),
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this directory.")] = None,
    processes: Annotated[
        int, typer.Option(help="Processes that share the work, as torchrun would start them.")
    ] = 1,
    **values: Any,
) -> None:
    """Train a language model on your prompts and your scorer, by PPO or another algorithm.

    Ctrl-C stops after the iteration with a checkpoint and says how to resume.

    With --resume the settings are those of the run; only --total-tokens
    may be given too, to train longer, and --processes.
    """
    from llm_gym.files.page import interval
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.by_name import check_shared_rows
    from llm_gym.stages.pages import closing
    from llm_gym.stages.train import train

    if resume is None:
        config = TrainConfig(**values)
    else:
        output, config = resume, _resumed(invocation, resume)
    config = config.resolved()
    # Here already: as many processes as somebody has typed would each load PyTorch to say it.
    check_shared_rows(config.num_envs, config.group_size or 1, processes)
    start(processes, invocation.obj)
    quiet_libraries()
    if world().rank:
        warnings.simplefilter("ignore")  # the first process says it
    command = f"llm-gym train --resume {shlex.quote(str(output))}"
    interrupted = f"interrupted; resume from the last checkpoint, if there is one: {command}"
    settings = {**vars(config), "output": output, "resume": None}
    leaving = leaving_config(invocation, output, settings) if world().rank == 0 else nullcontext()
    with interruptible(interrupted), leaving:
        run = train(output, config, resume=resume is not None)
    if world().rank:
        return
    if run.stopped:
        end_interrupted(f"stopped with checkpoint {run.checkpoint}; resume with: {command}")
    for when, found in run.evaluations.items():
        print(f"{when:<7}{found.mean_score:8.2f}   {interval(found.low, found.high, '.2f')}")
        turns: Any = (found.turns_low, found.turns_high)
        if found.mean_turns is not None:
            print(f"  turns{found.mean_turns:8.2f}   {interval(turns[0], turns[1], '.2f')}")
    if run.best:
        print(run.best)
    print(f"curves: {output / 'metrics.jsonl'}\nsamples: {output / 'samples.jsonl'}")
    print(closing(output, run.command))


def _resumed(context: typer.Context, output: Path) -> TrainConfig:
    """Settings of the run in `output`, with as many tokens as the command line says."""
    from llm_gym.stages.train import load_config

    named = {name for name in context.params if is_given(context, name)}
    fixed = sorted(named - {"resume", "total_tokens", "processes"})
    if fixed:
        names = ", ".join("--" + name.replace("_", "-") for name in fixed)
        raise ValueError(
            f"{names} cannot be changed when resuming; only --total-tokens can (the run's settings "
            f"are in {output / 'settings.json'})"
        )
    config = load_config(output)
    if "total_tokens" in named:
        return replace(config, total_tokens=context.params["total_tokens"])
    return config


# ------------------------------------------------------------------ supervised learning


@with_options_of(PretrainConfig)
def pretrain(
    invocation: typer.Context,
    text: Annotated[
        Path,
        typer.Argument(help='Plain text, or rows with "text" (.jsonl, .json, .csv, .parquet).'),
    ],
    output: Output = Path("runs/pretrain"),
    **values: Any,
) -> None:
    """Train a tokenizer and a small language model from scratch on next tokens."""
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.pages import MODEL, closing, pretraining_page
    from llm_gym.supervised.pretrain import pretrain

    config = PretrainConfig(**values)
    quiet_libraries()
    interrupted = f"interrupted; nothing was written to {output}"
    with interruptible(interrupted), command_directory(invocation, output):
        metrics = pretrain(text, output / MODEL, config)
        command = pretraining_page(output, metrics)
    print(
        f"held-out perplexity {metrics['held_out_perplexity_before']:.1f} before, "
        f"{metrics['held_out_perplexity']:.2f} after "
        f"({metrics['held_out_bits_per_byte']:.3f} bits per byte)"
    )
    print(closing(output, command))


@with_options_of(SFTConfig)
def sft(
    invocation: typer.Context,
    pairs: Annotated[
        Path, typer.Argument(help="Pairs or conversations (.jsonl, .json, .csv, .parquet).")
    ],
    model: Annotated[
        str, typer.Option(help="Language model to start from: name or directory.")
    ] = "llm_gym/email-base",
    output: Output = Path("runs/sft"),
    **values: Any,
) -> None:
    """Fine-tune a language model on instructions with answers."""
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.pages import MODEL, closing, fine_tuning_page
    from llm_gym.supervised.sft import fine_tune

    config = SFTConfig(**values)
    quiet_libraries()
    interrupted = f"interrupted; nothing was written to {output}"
    with interruptible(interrupted), command_directory(invocation, output):
        metrics = fine_tune(model, pairs, output / MODEL, config)
        command = fine_tuning_page(output, model, metrics)
    print(
        "held-out perplexity of the answers "
        f"{metrics['held_out_answer_perplexity_before']:.1f} before, "
        f"{metrics['held_out_answer_perplexity']:.2f} after"
    )
    print(closing(output, command))


@with_options_of(DPOConfig)
def dpo(
    invocation: typer.Context,
    preferences: Annotated[
        Path,
        typer.Argument(help="Preferences (.jsonl, .json, .csv, .parquet) or votes (.db, .sqlite)."),
    ],
    output: Output = Path("runs/dpo"),
    **values: Any,
) -> None:
    """Fine-tune a language model on preferences, without a reward model (DPO).

    After Ctrl-C the same command goes on where the run was last saved.
    """
    from llm_gym.feedback.dpo.dpo import train_dpo
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.pages import MODEL, closing, dpo_page

    config = DPOConfig(**values)
    quiet_libraries()
    interrupted = "interrupted; the same command goes on where the run was last saved"
    with interruptible(interrupted), command_directory(invocation, output):
        metrics = train_dpo(preferences, output / MODEL, config)
        command = dpo_page(output, metrics)
    before, after = metrics["held_out_before"], metrics["held_out"]
    print(
        f"held-out accuracy {after['accuracy']:.3f} ({after['pairs']:g} preferences), margin "
        f"{after['margin']:.3f}, loss {before['loss']:.3f} before, {after['loss']:.3f} after\n"
        f"log-probability of the chosen answers {before['chosen_log_prob']:.1f} before, "
        f"{after['chosen_log_prob']:.1f} after; of the rejected ones "
        f"{before['rejected_log_prob']:.1f} and {after['rejected_log_prob']:.1f}"
    )
    print(closing(output, command))


# ------------------------------------------------------------------ Ctrl-C


@contextmanager
def interruptible(text: str) -> Iterator[None]:
    """Ctrl-C ends the command with a line that says what is left, and how to go on.

    Args:
        text: The line.

    Raises:
        SystemExit: With `INTERRUPTED`, instead of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        end_interrupted(text)


def end_interrupted(text: str) -> NoReturn:
    """Says something on standard error, where no result is expected, and exits as interrupted.

    Args:
        text: What is left, and how to go on.

    Raises:
        SystemExit: With `INTERRUPTED`.
    """
    if number_started() > 1 and world().rank:
        raise SystemExit(0) from None  # another code would have torchrun interrupt the first
    print(f"llm-gym: {text}", file=sys.stderr)
    raise SystemExit(INTERRUPTED) from None
