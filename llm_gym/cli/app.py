"""The commands, their options and help. What they do is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llm_gym.cli.dpo import EXAMPLES as DPO_EXAMPLES
from llm_gym.cli.dpo import dpo
from llm_gym.cli.labelling import EXAMPLES, label
from llm_gym.cli.options import with_options_of
from llm_gym.cli.plugins import PluginGroup
from llm_gym.cli.reward_model import EXAMPLES as REWARD_MODEL_EXAMPLES
from llm_gym.cli.reward_model import reward_model
from llm_gym.cli.rlhf import COMPARE_EXAMPLES, RLHF_EXAMPLES, compare, rlhf
from llm_gym.stages.names import SCORER_NAMES
from llm_gym.stages.train import TrainConfig
from llm_gym.supervised.pretrain import PretrainConfig
from llm_gym.supervised.sft import SFTConfig

app = typer.Typer(
    name="llm-gym",
    cls=PluginGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Output = Annotated[Path, typer.Option(help="Directory for everything that is written.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
EnvId = Annotated[str, typer.Option(help="Id of a text environment (see `llm-gym envs`).")]
Scorer = Annotated[
    str | None,
    typer.Option(help="politeness, length:WORDS, regex:PATTERN, https://..., path.py:function ..."),
]
Prompts = Annotated[str | None, typer.Option(help="File of prompts: .txt, one a line, or .jsonl.")]
Template = Annotated[
    str | None,
    typer.Option(help='Text around the prompt ("{prompt}": none; default: as the task has it).'),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
_DEFAULTS = TrainConfig()
_SCORER_HELP = "A scorer is named by one of\n\n\b\n" + SCORER_NAMES


def _show_versions(wanted: bool) -> None:
    if wanted:
        from llm_gym.files.provenance import commit, versions

        for name, value in {**versions(), "commit": commit() or "unknown"}.items():
            typer.echo(f"{name} {value}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show versions and exit.", is_eager=True, callback=_show_versions
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Reinforcement learning on language models, as Gymnasium environments."""
    # `main` takes --debug off the line before it gets here; it is declared to be in the help.


@app.command()
def demo(
    seed: Seed = 0,
    output: Output = Path("runs/demo"),
) -> None:
    """Teach the built-in model politeness by PPO and write a report (minutes, offline)."""
    from llm_gym.cli.runs import run_demo

    run_demo(seed, output)


@app.command(epilog=_SCORER_HELP)
@with_options_of(TrainConfig)
def train(
    context: typer.Context,
    output: Output = Path("runs/train"),
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this directory.")] = None,
    **values: Any,
) -> None:
    """Train a language model by PPO on your prompts and your scorer.

    Ctrl-C stops after the iteration with a checkpoint and says how to resume.

    With --resume the settings are those of the run; only --total-tokens
    may be given too, to train longer.
    """
    from llm_gym.cli.runs import run_train

    if resume is None:
        run_train(TrainConfig(**values), output)
        return
    given = {name for name in context.params if _is_given(context, name)}
    others = sorted(given - {"resume", "total_tokens"})
    if others:
        names = ", ".join("--" + name.replace("_", "-") for name in others)
        raise ValueError(
            f"{names} cannot be changed when resuming; only --total-tokens can (the run's settings "
            f"are in {resume / 'settings.json'})"
        )
    run_train(None, resume, total_tokens=values["total_tokens"] if given - {"resume"} else None)


@app.command(epilog=_SCORER_HELP)
def evaluate(
    models: Annotated[list[str], typer.Argument(help="Names or directories of language models.")],
    env: EnvId = "llm_gym/PoliteEmail-v0",
    scorer: Scorer = None,
    prompts: Prompts = None,
    prompt_template: Template = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of an answer.", show_default="the task's")
    ] = None,
    max_prompts: Annotated[
        int | None, typer.Option(help="Only the first so many prompts.", show_default="all")
    ] = None,
    num_envs: Annotated[int, typer.Option(help="Answers written at the same time.")] = 32,
    temperature: Annotated[float, typer.Option(help="Temperature of the sampling.")] = 1.0,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Take the most probable token.")
    ] = False,
    seed: Seed = 0,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write every answer and score to this file.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Mean score of one or more models on held-out prompts, with 95 % intervals."""
    from llm_gym.cli.inspection import run_evaluate

    run_evaluate(
        models,
        env,
        scorer=scorer,
        prompts=prompts,
        prompt_template=prompt_template,
        max_new_tokens=max_new_tokens,
        max_prompts=max_prompts,
        num_envs=num_envs,
        temperature=temperature,
        deterministic=deterministic,
        seed=seed,
        json_path=json_path,
        device=device,
    )


@app.command(epilog=_SCORER_HELP)
def generate(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Prompts to answer.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Language model: embedded or hub name, or directory.")
    ] = _DEFAULTS.model,
    prompts: Prompts = None,
    scorer: Scorer = None,
    prompt_template: Template = None,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 96,
    samples: Annotated[int, typer.Option(help="Answers to each prompt.")] = 1,
    temperature: Annotated[float, typer.Option(help="Temperature of the sampling.")] = 1.0,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Take the most probable token.")
    ] = False,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    device: Device = "cpu",
) -> None:
    """Print a model's answers to prompts, and their scores if a scorer is given."""
    from llm_gym.cli.inspection import run_generate

    run_generate(
        texts or [],
        model,
        prompts=prompts,
        scorer=scorer,
        prompt_template=prompt_template,
        max_new_tokens=max_new_tokens,
        samples=samples,
        temperature=temperature,
        deterministic=deterministic,
        seed=seed,
        as_json=as_json,
        device=device,
    )


@app.command()
@with_options_of(PretrainConfig)
def pretrain(
    text: Annotated[
        Path, typer.Argument(help='Plain text, or .jsonl with a "text" in every line.')
    ],
    output: Output = Path("runs/pretrain"),
    **values: Any,
) -> None:
    """Train a tokenizer and a small language model from scratch on next tokens."""
    from llm_gym.cli.runs import run_pretrain

    run_pretrain(text, output, PretrainConfig(**values))


@app.command()
@with_options_of(SFTConfig)
def sft(
    pairs: Annotated[
        Path, typer.Argument(help='.jsonl with "prompt" and "completion" in every line.')
    ],
    model: Annotated[
        str, typer.Option(help="Language model to start from: name or directory.")
    ] = "llm_gym/email-base",
    output: Output = Path("runs/sft"),
    **values: Any,
) -> None:
    """Fine-tune a language model on instructions with answers."""
    from llm_gym.cli.runs import run_sft

    run_sft(model, pairs, output, SFTConfig(**values))


app.command(epilog=COMPARE_EXAMPLES)(compare)
app.command(epilog=EXAMPLES)(label)
app.command(epilog=REWARD_MODEL_EXAMPLES)(reward_model)
app.command(epilog=DPO_EXAMPLES)(dpo)
app.command(epilog=RLHF_EXAMPLES)(rlhf)


@app.command()
def envs() -> None:
    """List the environments that llm_gym and its plug-ins register."""
    from llm_gym.cli.inspection import run_envs

    run_envs()


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter was on the command line, rather than left at its default."""
    source: Any = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
