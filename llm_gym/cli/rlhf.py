"""The commands `rlhf`, the whole road, and `compare`, its third stage by itself."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from llm_gym.cli.options import with_options_of
from llm_gym.cli.runs import INTERRUPTED, say
from llm_gym.stages.compare import CompareConfig
from llm_gym.stages.rlhf.settings import RLHFConfig

__all__ = ["COMPARE_EXAMPLES", "RLHF_EXAMPLES", "compare", "rlhf"]

RLHF_EXAMPLES = """\
\b
  llm-gym rlhf                       (generated text, simulated raters: minutes)
  llm-gym rlhf --raters people       (stops for votes; the same command goes on)
  llm-gym rlhf --flattery-bias 20    (raters who like to be praised)
  llm-gym rlhf --start-from MODEL --pairs pairs.jsonl --prompts prompts.txt

Stopped with Ctrl-C, or killed: the same command goes on."""

COMPARE_EXAMPLES = """\
\b
  llm-gym compare votes.db --model runs/sft --prompts prompts.txt
  llm-gym label votes.db
  llm-gym reward-model votes.db --model runs/sft

With --raters simulated the votes are cast at once."""


@with_options_of(RLHFConfig)
def rlhf(
    invocation: typer.Context,
    output: Annotated[Path, typer.Option(help="Directory for everything that is written.")] = Path(
        "runs/rlhf"
    ),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Tiny sizes for everything not given: to see it run."),
    ] = False,
    **values: Any,
) -> None:
    """From text to a model trained on preferences: the whole road, with a report.

    Pre-training, fine-tuning, comparisons, reward model, PPO: five stages
    in one directory. A finished stage is never done again.
    """
    if quick:
        given = {name: values[name] for name in values if _is_given(invocation, name)}
        config = RLHFConfig.quick().with_values(**given)
    else:
        config = RLHFConfig(**values)
    run_rlhf(config, output)


def run_rlhf(config: RLHFConfig, output: Path) -> None:
    """Behind `llm-gym rlhf`.

    Args:
        config: Settings of the run.
        output: Its directory.
    """
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.rlhf import RLHFRun
    from llm_gym.stages.rlhf import rlhf as walk

    quiet_libraries()
    try:
        run = walk(output, config)
    except KeyboardInterrupt:
        run = RLHFRun(stopped=True)
    if run.label_command:
        print(f"{run.waits_for_votes:,} votes are still wanted; give them with")
        print(f"  {run.label_command}")
        print("and then go on with the same command as before:")
        print(f"  {_command(config, output)}")
        print("(with --enough-votes NUMBER it goes on with fewer)")
    elif run.stopped:
        say(f"stopped; the same command goes on: {_command(config, output)}")
        raise SystemExit(INTERRUPTED)


@with_options_of(CompareConfig)
def compare(
    store: Annotated[
        Path, typer.Argument(help="File of comparisons and votes (SQLite); made if missing.")
    ],
    **values: Any,
) -> None:
    """Sample a model's answers in pairs, for people or simulated raters to compare."""
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.compare import compare as collect
    from llm_gym.stages.compare import how_to_label

    quiet_libraries()
    config = CompareConfig(**values)
    try:
        figures = collect(store, config)
    except KeyboardInterrupt:
        say("stopped; what is in the store stays there, and the same command goes on")
        raise SystemExit(INTERRUPTED) from None
    print(f"{store}: {figures['comparisons']:,} comparisons, {figures['votes']:,} votes")
    if figures["agreement"] is not None:
        print(
            f"two raters agree {100 * figures['agreement']:.1f} % of the time "
            f"({100 * figures['agreement_low']:.1f} to {100 * figures['agreement_high']:.1f} %)"
        )
    if config.raters == "people":
        print(f"vote with:        {how_to_label(store, config.votes_per_comparison)}")
    reward = f"llm-gym reward-model {shlex.quote(str(store))} --model {shlex.quote(config.model)}"
    print(f"then learn it:    {reward}")


def _command(config: RLHFConfig, output: Path) -> str:
    """The shortest command line that means these settings."""
    quick, default = RLHFConfig.quick(), RLHFConfig()

    def other_than(base: RLHFConfig) -> list[str]:
        return [
            field.name
            for field in fields(config)
            if getattr(config, field.name) != getattr(base, field.name)
        ]

    is_quick = len(other_than(quick)) < len(other_than(default))
    parts = ["llm-gym rlhf", *(["--quick"] if is_quick else [])]
    for name in other_than(quick if is_quick else default):
        value = shlex.quote(str(getattr(config, name)))
        parts.append(f"--{name.replace('_', '-')} {value}")
    return " ".join([*parts, f"--output {shlex.quote(str(output))}"])


def _is_given(invocation: typer.Context, name: str) -> bool:
    source: Any = invocation.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
