"""The commands that learn from comparisons: `rlhf` and its `compare`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from llm_gym.cli.command import is_given
from llm_gym.cli.config_file import leaving_config
from llm_gym.cli.options import Output, with_options_of
from llm_gym.cli.runs import end_interrupted, interruptible
from llm_gym.cli.served import NoBrowser, refuse_without_page
from llm_gym.cli.voting import VotingHost, VotingPort, voting_page
from llm_gym.stages.compare import CompareConfig
from llm_gym.stages.rlhf.settings import RLHFConfig

RLHF_EXAMPLES = """\
\b
  llm-gym rlhf                       (generated text, simulated raters: minutes)
  llm-gym rlhf --quick               (built-in models, a minute)
  llm-gym rlhf --class --raters people --host 0.0.0.0   (300 votes from a class's phones)
  llm-gym rlhf --flattery-bias 50    (raters who like to be praised)
  llm-gym rlhf --start-from MODEL --pairs pairs.jsonl --prompts prompts.txt

Stopped with Ctrl-C, or killed: the same command goes on."""

COMPARE_EXAMPLES = """\
\b
  llm-gym compare votes.db --model runs/sft --prompts prompts.txt
  llm-gym label votes.db
  llm-gym reward-model votes.db --model runs/sft

With --raters simulated the votes are cast at once."""


_OF_SIMULATED = ("simulated_raters", "rater_noise", "rater_lapse", "length_bias", "flattery_bias")


@with_options_of(RLHFConfig)
def rlhf(
    invocation: typer.Context,
    output: Output = Path("runs/rlhf"),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Small sizes for everything not given: a gain in a minute."),
    ] = False,
    for_class: Annotated[
        bool,
        typer.Option("--class", help="Sizes for a class, for everything not given: 300 votes."),
    ] = False,
    host: VotingHost = None,
    port: VotingPort = 0,
    no_browser: NoBrowser = False,
    **values: Any,
) -> None:
    """From text to a model trained on preferences: the whole road, with a report.

    Pre-training, fine-tuning, comparisons, reward model, PPO: five stages
    in one directory. A finished stage is never done again.
    """
    from llm_gym.feedback.labelling.addresses import listen
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.rlhf import rlhf

    if quick and for_class:
        raise ValueError("--quick and --class are sizes of everything; give one of them")
    named = {name: values[name] for name in values if is_given(invocation, name)}
    sizes = RLHFConfig.quick if quick else RLHFConfig.for_class if for_class else RLHFConfig
    config = sizes(**named)
    if host is not None and config.raters != "people":
        raise ValueError(f"--host {host} is for votes of people; give --raters people, too")
    if host is None:
        refuse_without_page("give --raters people --host 127.0.0.1", port=port)
    _check_raters(config)
    _check_sources(named)
    if host is not None:
        with listen(host, port):  # that it cannot be is said now, not when people are to vote
            pass
    quiet_libraries()
    command = _command(config, output) + (f" --host {shlex.quote(host)}" if host else "")
    how_to_go_on = f"stopped; the same command goes on: {command}"
    settings = {**vars(config), "quick": False, "for_class": False}
    with interruptible(how_to_go_on), leaving_config(invocation, output, settings):
        run = rlhf(output, config)
        if run.store is not None and host is not None:
            with voting_page(run.store, config, host, port, browser=not no_browser) as wait:
                wait()
                run = rlhf(output, config)
    if run.stopped:
        end_interrupted(how_to_go_on)
    if run.label_command:
        print(f"{run.waits_for_votes:,} votes are still wanted; give them with")
        print(f"  {run.label_command}")
        print("and then go on with the same command as before:")
        print(f"  {_command(config, output)}")
        print("(with --enough-votes NUMBER it goes on with fewer)")


def _check_sources(named: Mapping[str, Any]) -> None:
    """Refuses settings of what is generated beside the file that takes its place, and of no file.

    Args:
        named: What was given.
    """
    for name, file in (("documents", "text"), ("generated_pairs", "pairs")):
        if name in named and named.get(file) is not None:
            raise ValueError(
                f"{name}={named[name]} are generated where no {file} is given, and "
                f"{file}={named[file]!r} is: give one of them"
            )
    if named.get("prompt_column") is not None and not (named.get("prompts") or named.get("pairs")):
        raise ValueError(
            f"prompt_column={named['prompt_column']!r} is of a file, and none is given: give "
            "--prompts or --pairs, or leave it out"
        )


def _check_raters(config: CompareConfig | RLHFConfig) -> None:
    """Refuses settings of simulated raters where people vote."""
    for each in fields(config):
        value = getattr(config, each.name)
        if config.raters == "people" and each.name in _OF_SIMULATED and value != each.default:
            raise ValueError(
                f"{each.name}={value!r} is of simulated raters, and people are to vote: leave it "
                "out, or give --raters simulated"
            )


def _command(config: RLHFConfig, output: Path) -> str:
    """The shortest command line that means these settings."""
    presets = {
        "": RLHFConfig(),
        " --quick": RLHFConfig.quick(),
        " --class": RLHFConfig.for_class(),
    }
    other = {
        option: {
            field.name: getattr(config, field.name)
            for field in fields(config)
            if getattr(config, field.name) != getattr(preset, field.name)
        }
        for option, preset in presets.items()
    }
    # None can only be left out: no option means it.
    possible = [option for option in other if None not in other[option].values()]
    shortest = min(possible, key=lambda option: len(other[option]))
    parts = [f"llm-gym rlhf{shortest}"]
    for name, value in other[shortest].items():
        parts.append(f"--{name.replace('_', '-')} {shlex.quote(str(value))}")
    return " ".join([*parts, f"--output {shlex.quote(str(output))}"])


@with_options_of(CompareConfig)
def compare(
    store: Annotated[
        Path, typer.Argument(help="File of comparisons and votes (SQLite); made if missing.")
    ],
    **values: Any,
) -> None:
    """Sample a model's answers in pairs, for people or simulated raters to compare."""
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.compare import compare, how_to_label
    from llm_gym.stages.votes import told_biases

    quiet_libraries()
    config = CompareConfig(**values)
    _check_raters(config)
    with interruptible("stopped; what is in the store stays there, and the same command goes on"):
        figures = compare(store, config)
    print(f"{store}: {figures['comparisons']:,} comparisons, {figures['votes']:,} votes")
    if figures["agreement"] is not None:
        print(
            f"two raters agree {100 * figures['agreement']:.1f} % of the time "
            f"({100 * figures['agreement_low']:.1f} to {100 * figures['agreement_high']:.1f} %)"
        )
    print(told_biases(figures["biases"]))
    if config.raters == "people":
        print(f"vote with:        {how_to_label(store, config.votes_per_comparison)}")
    reward = f"llm-gym reward-model {shlex.quote(str(store))} --model {shlex.quote(config.model)}"
    print(f"then learn it:    {reward}")
