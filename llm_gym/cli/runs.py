"""The commands that train: `demo`, `train`, `pretrain`, `sft`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from llm_gym.pipeline.train import TrainSettings

__all__ = ["run_demo", "run_train"]

INTERRUPTED = 130


def run_train(
    settings: TrainSettings | None, output: Path, *, total_tokens: int | None = None
) -> None:
    """Behind `llm-gym train`.

    Args:
        settings: of a new run; None resumes the one in `output`.
        output: the run's directory.
        total_tokens: when resuming, train up to here instead.
    """
    from llm_gym.pipeline.setup import quiet_libraries
    from llm_gym.pipeline.train import load_settings, train

    quiet_libraries()
    resume = settings is None
    if settings is None:
        settings = load_settings(output)
        if total_tokens is not None:
            settings = replace(settings, total_tokens=total_tokens)
    command = f"llm-gym train --resume {shlex.quote(str(output))}"
    try:
        run = train(settings, output, resume=resume)
    except KeyboardInterrupt:
        _say(f"interrupted; resume from the last checkpoint, if there is one: {command}")
        raise SystemExit(INTERRUPTED) from None
    if run.stopped:
        _say(f"stopped with checkpoint {run.checkpoint}; resume with: {command}")
        raise SystemExit(INTERRUPTED)
    model = run.checkpoint / "model"
    print(f"trained model:  {model}")
    print(f"curves:         {output / 'metrics.jsonl'}")
    print(f"samples:        {output / 'samples.jsonl'}")
    print(f"try it:         llm-gym generate --model {shlex.quote(str(model))} ...")


def run_demo(seed: int, output: Path) -> None:
    """Behind `llm-gym demo`."""
    from llm_gym.pipeline.demo import DemoSettings, demo
    from llm_gym.pipeline.setup import quiet_libraries

    quiet_libraries()
    command = f"llm-gym demo --seed {seed} --output {shlex.quote(str(output))}"
    try:
        finished = demo(DemoSettings(seed=seed), output)
    except KeyboardInterrupt:
        finished = False
    if not finished:
        _say(f"stopped; the same command goes on from the last checkpoint: {command}")
        raise SystemExit(INTERRUPTED)


def _say(text: str) -> None:
    print(f"llm-gym: {text}", file=sys.stderr)
