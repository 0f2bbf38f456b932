"""The commands, their options and help. What they do is imported when they run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from llm_gym.pipeline.setup import SCORER_NAMES
from llm_gym.pipeline.train import TrainSettings

app = typer.Typer(
    name="llm-gym",
    help="Reinforcement learning on language models, as Gymnasium environments.",
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
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
_DEFAULTS = TrainSettings()
_SCORER_HELP = "A scorer is named by one of\n\n\b\n" + SCORER_NAMES


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show versions and exit.", is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    # `main` takes --debug off the line before it gets here; it is declared to be in the help.
    if version:
        from llm_gym.report.provenance import commit, versions

        for name, value in {**versions(), "commit": commit() or "unknown"}.items():
            typer.echo(f"{name} {value}")
        raise typer.Exit


@app.command()
def demo(
    seed: Seed = 0,
    output: Output = Path("runs/demo"),
) -> None:
    """Teach the built-in model politeness by PPO and write a report (minutes, offline)."""
    from llm_gym.cli.runs import run_demo

    run_demo(seed, output)


@app.command(epilog=_SCORER_HELP)
def train(
    context: typer.Context,
    env: EnvId = _DEFAULTS.env,
    model: Annotated[
        str, typer.Option(help="Language model to train: embedded or hub name, or directory.")
    ] = _DEFAULTS.model,
    scorer: Scorer = None,
    prompts: Prompts = None,
    output: Output = Path("runs/train"),
    resume: Annotated[
        Path | None, typer.Option(help="Continue the run in this directory.", show_default=False)
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of an answer.", show_default="the task's")
    ] = None,
    prompt_template: Annotated[
        str | None, typer.Option(help='Text around the prompt: "Q: {prompt}".')
    ] = None,
    on_max_length: Annotated[
        str | None, typer.Option(help="Unfinished answers: terminate, truncate or penalise.")
    ] = None,
    missing_eos_penalty: Annotated[
        float | None, typer.Option(help='Reward of an unfinished answer under "penalise".')
    ] = None,
    total_tokens: Annotated[
        int, typer.Option(help="Tokens to generate in all.")
    ] = _DEFAULTS.total_tokens,
    num_envs: Annotated[
        int, typer.Option(help="Answers written at the same time.")
    ] = _DEFAULTS.num_envs,
    n_steps: Annotated[
        int | None,
        typer.Option(help="Tokens per answer slot and rollout.", show_default="a whole answer"),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Tokens per gradient step.")
    ] = _DEFAULTS.batch_size,
    n_epochs: Annotated[int, typer.Option(help="Passes over each rollout.")] = _DEFAULTS.n_epochs,
    learning_rate: Annotated[
        float, typer.Option(help="Step size of AdamW.")
    ] = _DEFAULTS.learning_rate,
    anneal_learning_rate: Annotated[
        bool, typer.Option(help="Let the step size fall linearly to 0.")
    ] = _DEFAULTS.anneal_learning_rate,
    clip_range: Annotated[
        float, typer.Option(help="PPO's clipping of the probability ratio.")
    ] = _DEFAULTS.clip_range,
    gamma: Annotated[float, typer.Option(help="Discount factor.")] = _DEFAULTS.gamma,
    gae_lambda: Annotated[
        float, typer.Option(help="Bias and variance of the advantages.")
    ] = _DEFAULTS.gae_lambda,
    vf_coef: Annotated[float, typer.Option(help="Weight of the value loss.")] = _DEFAULTS.vf_coef,
    ent_coef: Annotated[
        float, typer.Option(help="Weight of the entropy bonus.")
    ] = _DEFAULTS.ent_coef,
    max_grad_norm: Annotated[
        float, typer.Option(help="Clipping of the gradient.")
    ] = _DEFAULTS.max_grad_norm,
    kl_coef: Annotated[
        float, typer.Option(help="Penalty per nat of divergence from the starting model.")
    ] = _DEFAULTS.kl_coef,
    kl_target: Annotated[
        float | None,
        typer.Option(help="Nats per answer that the penalty steers to.", show_default="fixed"),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Of the policy, in training as in sampling.")
    ] = _DEFAULTS.temperature,
    top_k: Annotated[
        int, typer.Option(help="Sample among the k most probable tokens (0: all).")
    ] = _DEFAULTS.top_k,
    top_p: Annotated[
        float, typer.Option(help="Sample from the nucleus of this probability (1: all).")
    ] = _DEFAULTS.top_p,
    mixed_precision: Annotated[str, typer.Option(help="no or bf16.")] = _DEFAULTS.mixed_precision,
    seed: Seed = _DEFAULTS.seed,
    device: Device = _DEFAULTS.device,
    checkpoint_every: Annotated[
        int, typer.Option(help="Iterations between two checkpoints.")
    ] = _DEFAULTS.checkpoint_every,
    keep_last: Annotated[int, typer.Option(help="Checkpoints to keep.")] = _DEFAULTS.keep_last,
) -> None:
    """Train a language model by PPO on your prompts and your scorer.

    Ctrl-C stops after the iteration with a checkpoint and says how to resume. With --resume, the
    settings are those of the run; only --total-tokens may be given too, to train longer.
    """
    from llm_gym.cli.runs import run_train

    given = {name: value for name, value in context.params.items() if _is_given(context, name)}
    if resume is None:
        given.pop("output", None)
        run_train(replace(_DEFAULTS, **given), output)
        return
    others = sorted(given.keys() - {"resume", "total_tokens"})
    if others:
        names = ", ".join("--" + name.replace("_", "-") for name in others)
        raise ValueError(
            f"{names} cannot be changed when resuming; only --total-tokens can (the run's settings "
            f"are in {resume / 'settings.json'})"
        )
    run_train(None, resume, total_tokens=given.get("total_tokens"))


@app.command(epilog=_SCORER_HELP)
def evaluate(
    models: Annotated[list[str], typer.Argument(help="Names or directories of language models.")],
    env: EnvId = "llm_gym/PoliteEmail-v0",
    scorer: Scorer = None,
    prompts: Prompts = None,
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
    from llm_gym.cli.inspect import run_evaluate

    run_evaluate(
        models,
        env,
        scorer=scorer,
        prompts=prompts,
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
    from llm_gym.cli.inspect import run_generate

    run_generate(
        texts or [],
        model,
        prompts=prompts,
        scorer=scorer,
        max_new_tokens=max_new_tokens,
        samples=samples,
        temperature=temperature,
        deterministic=deterministic,
        seed=seed,
        as_json=as_json,
        device=device,
    )


@app.command()
def envs() -> None:
    """List the environments that llm_gym and its plug-ins register."""
    from llm_gym.cli.inspect import run_envs

    run_envs()


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter was on the command line, rather than left at its default."""
    source: Any = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
