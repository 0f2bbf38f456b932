"""The commands that train: `demo`, `train`, `pretrain`, `sft`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_gym.stages.train import TrainConfig
    from llm_gym.supervised.pretrain import PretrainConfig
    from llm_gym.supervised.sft import SFTConfig

__all__ = [
    "INTERRUPTED",
    "interruptible",
    "run_demo",
    "run_pretrain",
    "run_sft",
    "run_train",
    "say",
]

INTERRUPTED = 130  # exit status, a shell's for SIGINT


def run_train(config: TrainConfig | None, output: Path, *, total_tokens: int | None = None) -> None:
    """Behind `llm-gym train`.

    Args:
        config: Settings of a new run; None resumes the one in `output`.
        output: The run's directory.
        total_tokens: When resuming, train up to here instead.
    """
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.train import load_config, train

    quiet_libraries()
    resume = config is None
    if config is None:
        config = load_config(output)
        if total_tokens is not None:
            config = replace(config, total_tokens=total_tokens)
    command = f"llm-gym train --resume {shlex.quote(str(output))}"
    try:
        run = train(output, config, resume=resume)
    except KeyboardInterrupt:
        say(f"interrupted; resume from the last checkpoint, if there is one: {command}")
        raise SystemExit(INTERRUPTED) from None
    if run.stopped:
        say(f"stopped with checkpoint {run.checkpoint}; resume with: {command}")
        raise SystemExit(INTERRUPTED)
    model = run.checkpoint / "model"
    print(f"trained model:  {model}")
    print(f"curves:         {output / 'metrics.jsonl'}")
    print(f"samples:        {output / 'samples.jsonl'}")
    print(f"try it:         llm-gym generate --model {shlex.quote(str(model))} ...")


def run_demo(seed: int, output: Path) -> None:
    """Behind `llm-gym demo`."""
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.demo import DemoConfig, DemoRun, demo

    quiet_libraries()
    command = f"llm-gym demo --seed {seed} --output {shlex.quote(str(output))}"
    try:
        run = demo(output, DemoConfig(seed=seed))
    except KeyboardInterrupt:
        run = DemoRun(stopped=True)
    if run.stopped:
        say(f"stopped; the same command goes on from the last checkpoint: {command}")
        raise SystemExit(INTERRUPTED)


def run_pretrain(text: Path, output: Path, config: PretrainConfig) -> None:
    """Behind `llm-gym pretrain`."""
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.supervised.pretrain import pretrain

    quiet_libraries()
    with interruptible(output):
        metrics = pretrain(text, output, config)
    print(
        f"held-out perplexity {metrics['held_out_perplexity_before']:.1f} before, "
        f"{metrics['held_out_perplexity']:.2f} after "
        f"({metrics['held_out_bits_per_byte']:.3f} bits per byte)\nmodel: {output}"
    )


def run_sft(model: str, pairs: Path, output: Path, config: SFTConfig) -> None:
    """Behind `llm-gym sft`."""
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.supervised.sft import fine_tune

    quiet_libraries()
    with interruptible(output):
        metrics = fine_tune(model, pairs, output, config)
    print(
        "held-out perplexity of the answers "
        f"{metrics['held_out_answer_perplexity_before']:.1f} before, "
        f"{metrics['held_out_answer_perplexity']:.2f} after\nmodel: {output}"
    )


@contextmanager
def interruptible(output: Path) -> Iterator[None]:
    """Ctrl-C ends a command that is over in minutes, and leaves no half-written directory.

    Args:
        output: The directory that the command would have written.

    Raises:
        SystemExit: With `INTERRUPTED`, instead of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted; nothing was written to {output}")
        raise SystemExit(INTERRUPTED) from None


def say(text: str) -> None:
    """Tells the user something on standard error, where no result is expected."""
    print(f"llm-gym: {text}", file=sys.stderr)
