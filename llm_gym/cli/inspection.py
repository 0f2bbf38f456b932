"""The commands that look and change nothing: `evaluate`, `generate`, `envs`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_gym.cli.config_file import config_of
from llm_gym.cli.descriptions import description_of
from llm_gym.cli.options import Device, Seed, with_options_of
from llm_gym.cli.panels import panel_of
from llm_gym.files import atomic
from llm_gym.files.settings import config_from
from llm_gym.files.untrusted import printable, shortened
from llm_gym.stages.environment import (
    AnswerConfig,
    EpisodeConfig,
    LoadingConfig,
    SamplingConfig,
    TurnConfig,
    check_conversations,
)
from llm_gym.stages.train import TrainConfig

if TYPE_CHECKING:
    from llm_gym.runs.evaluation import Evaluation

_POLITE = "llm_gym/PoliteEmail-v0"
EnvId = Annotated[
    str,
    typer.Option(
        help="Id of a text environment (see `llm-gym envs`).", rich_help_panel=panel_of("env")
    ),
]
Scorer = Annotated[
    str | None,
    typer.Option(
        help="What an answer is worth: politeness, length:WORDS, regex:PATTERN, https://..., "
        "path.py:function ...",
        rich_help_panel=panel_of("scorer"),
    ),
]
Prompts = Annotated[
    str | None, typer.Option(help="File of prompts: .txt, .jsonl, .json, .csv or .parquet.")
]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Take the most probable token.")
]

MAX_NEW_TOKENS = 96  # of an answer, where nobody says how many
_NAMESPACE = "llm_gym"  # of our environments, and by convention of plug-ins'


@with_options_of(EpisodeConfig)
@with_options_of(TurnConfig)
@with_options_of(SamplingConfig)
@with_options_of(LoadingConfig)
def evaluate(
    context: typer.Context,
    models: Annotated[list[str], typer.Argument(help="Names or directories of language models.")],
    env: EnvId = _POLITE,
    scorer: Scorer = None,
    prompts: Prompts = None,
    max_prompts: Annotated[
        int | None,
        typer.Option(
            help="Only the first so many prompts, or conversations with a world.",
            show_default="all; conversations: 100",
            rich_help_panel=panel_of("max_prompts"),
        ),
    ] = None,
    num_envs: Annotated[
        int,
        typer.Option(
            help="Answers written at the same time.", rich_help_panel=panel_of("num_envs")
        ),
    ] = 32,
    deterministic: Deterministic = False,
    seed: Seed = 0,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write every answer and score to this file.")
    ] = None,
    device: Device = "cpu",
    **values: Any,
) -> None:
    """Mean score of one or more models on held-out prompts, with 95 % intervals.

    With --world it is the mean return of conversations, and how many turns they took.
    """
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.stages.by_name import TURNS, check_task, environment_kwargs, has_turns

    if json_path is not None:
        atomic.check_file(json_path)
    turns = config_from(TurnConfig, values)
    if turns.world is not None and env == _POLITE:
        env = TURNS
    told = {**values, "scorer": scorer, "prompts": prompts}
    check_conversations(env, turns, told, has_world=has_turns(env))
    sampling, loading = config_from(SamplingConfig, values), config_from(LoadingConfig, values)
    answers = config_from(EpisodeConfig, values).episode_options() | turns.turn_options()
    quiet_libraries()
    evaluations: dict[str, Evaluation] = {}
    for model in models:
        kwargs = environment_kwargs(
            env, model, scorer=scorer, device=device, prompts=prompts, **answers
        )
        check_task(env, kwargs)
        evaluations[model] = evaluate(
            model,
            env,
            env_kwargs=kwargs,
            policy_kwargs=sampling.policy_options() | loading.loading_options(),
            max_prompts=max_prompts,
            num_envs=num_envs,
            deterministic=deterministic,
            seed=seed,
            device=device,
            progress_bar=True,
        )
    if json_path is not None:
        settings = {
            "env": env,
            "seed": seed,
            "temperature": sampling.temperature,
            "deterministic": deterministic,
            "config": config_of(context),
        }
        _write(json_path, settings, evaluations)
    _say_formats(evaluations)
    _print_table(evaluations)


def _say_formats(evaluations: dict[str, Evaluation]) -> None:
    """How prompts were shown, once for all models that were shown them alike."""
    formats = dict.fromkeys(evaluation.prompt_format for evaluation in evaluations.values())
    for shown in formats:
        models = [name for name, found in evaluations.items() if found.prompt_format == shown]
        to = "" if len(formats) == 1 else f" to {', '.join(models)}"
        print(printable(f"prompts are shown{to} as {shown}", multiline=False), file=sys.stderr)


def _write(path: Path, settings: dict[str, Any], evaluations: dict[str, Evaluation]) -> None:
    from llm_gym.files.provenance import commit, machine, versions

    provenance = {"versions": versions(), "commit": commit(), "machine": machine()}
    models = {model: evaluation.to_dict() for model, evaluation in evaluations.items()}
    atomic.write_json(path, {**settings, **provenance, "models": models})


def _print_table(evaluations: dict[str, Evaluation]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    talks = any(evaluation.mean_turns is not None for evaluation in evaluations.values())
    of_turns = ("turns", "95 % interval") if talks else ()
    last = "conversations" if talks else "prompts"
    for heading in ("model", "score", "95 % interval", *of_turns, "tokens", "ended", last):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model, evaluation in evaluations.items():
        table.add_row(
            Text(printable(model), overflow="fold"),
            *_with_interval(evaluation.mean_score, evaluation.low, evaluation.high),
            *(
                _with_interval(evaluation.mean_turns, evaluation.turns_low, evaluation.turns_high)
                if talks
                else ()
            ),
            f"{evaluation.mean_length:.1f}",
            f"{100 * evaluation.share_ended:.0f} %",
            str(len(evaluation.rows)),
        )
    Console().print(table)


def _with_interval(mean: Any, low: Any, high: Any) -> tuple[str, str]:
    return f"{mean:.2f}", f"{low:.2f} to {high:.2f}" if low < high else "-"


@with_options_of(AnswerConfig)
@with_options_of(SamplingConfig)
@with_options_of(LoadingConfig)
def generate(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Prompts to answer.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Language model: embedded or hub name, or directory.")
    ] = TrainConfig().model,
    prompts: Prompts = None,
    scorer: Scorer = None,
    samples: Annotated[int, typer.Option(help="Answers to each prompt.")] = 1,
    deterministic: Deterministic = False,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    device: Device = "cpu",
    **values: Any,
) -> None:
    """Print a model's answers to prompts, and their scores if a scorer is given."""
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.stages.by_name import (
        TEXT_GENERATION,
        environment_kwargs,
        fitting_prompts,
        no_score,
        prompt_format_of,
        said_already,
    )
    from llm_gym.text.prompts import read_prompt

    options = config_from(AnswerConfig, values)
    loading = config_from(LoadingConfig, values).loading_options()
    quiet_libraries()
    if samples < 1:
        raise ValueError(f"--samples must be at least 1, got {samples}")
    rows = [read_prompt(text, f"prompt {n}") for n, text in enumerate(texts or [], start=1)]
    if prompts is not None:
        rows += options.read(prompts)
    if not rows:
        raise ValueError('there is nothing to answer: give prompts, e.g. llm-gym generate "Write"')
    shown = prompt_format_of(model, options.prompt_template, options.add_special_tokens)
    kwargs = environment_kwargs(
        TEXT_GENERATION,
        model,
        scorer=scorer,
        device=device,
        **options.fitted_options(),
        **{**options.ending_options(), "prompt_template": shown},
    )
    rows, kwargs["max_new_tokens"] = fitting_prompts(
        model, rows, options, options.max_new_tokens, MAX_NEW_TOKENS, shown
    )
    if scorer is None:
        kwargs["scorer"] = no_score
    with said_already():
        answers = evaluate(
            model,
            {**kwargs, "prompts": [row for row in rows for _ in range(samples)]},
            policy_kwargs=config_from(SamplingConfig, values).policy_options() | loading,
            deterministic=deterministic,
            seed=seed,
            device=device,
        )
    _say_formats({model: answers})
    for row in answers.rows:
        if as_json:
            score = {} if scorer is None else {"score": row.score}
            print(json.dumps({"prompt": row.prompt, "completion": row.completion, **score}))
        else:
            verdict = "" if scorer is None else f"  (score {row.score:.4g})"
            print(f"> {shortened(row.prompt, 200)}{verdict}\n{_for(sys.stdout, row.completion)}\n")


def _for(stream: Any, text: str) -> str:
    """Model text for a stream: safe in a terminal, and in whatever encoding the stream has."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return printable(text).encode(encoding, errors="backslashreplace").decode(encoding)


def envs() -> None:
    """List the environments that llm_gym and its plug-ins register."""
    import gymnasium as gym

    import llm_gym  # noqa: F401 - registers

    specs = [spec for spec in gym.registry.values() if spec.namespace == _NAMESPACE]
    width = max(len(spec.id) for spec in specs)
    for spec in sorted(specs, key=lambda spec: spec.id):
        print(f"{spec.id:<{width}}  {shortened(description_of(spec), 100)}")
