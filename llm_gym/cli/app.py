"""The commands in the order of the help. What they do is imported when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_gym.cli import (
    chat,
    examining,
    inspection,
    labelling,
    models,
    preferences,
    reward_model,
    runs,
    scoring,
    touring,
    watching,
)
from llm_gym.cli.command import Command, configurable
from llm_gym.cli.plugins import PluginGroup
from llm_gym.scorers.by_name import SCORER_NAMES

app = typer.Typer(
    name="llm-gym",
    cls=PluginGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_SCORERS = "A scorer is named by one of\n\n\b\n" + SCORER_NAMES


def _show_versions(show: bool) -> None:
    if show:
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


for _function, _epilog in (
    (touring.tour, touring.EXAMPLES),
    (runs.demo, None),
    (runs.train, _SCORERS),
    (inspection.evaluate, _SCORERS),
    (inspection.generate, _SCORERS),
    (scoring.score, f"{scoring.EXAMPLES}\n\n{_SCORERS}"),
    (runs.pretrain, None),
    (runs.sft, None),
    (preferences.compare, preferences.COMPARE_EXAMPLES),
    (labelling.label, labelling.EXAMPLES),
    (reward_model.reward_model, reward_model.EXAMPLES),
    (runs.dpo, runs.DPO_EXAMPLES),
    (preferences.rlhf, preferences.RLHF_EXAMPLES),
    (watching.watch, watching.EXAMPLES),
    (examining.doctor, examining.EXAMPLES),
    (chat.chat, chat.EXAMPLES),
    (models.fetch, models.FETCH_EXAMPLES),
    (models.merge, models.MERGE_EXAMPLES),
    (inspection.envs, None),
):
    app.command(cls=Command, epilog=_epilog)(configurable(_function))
