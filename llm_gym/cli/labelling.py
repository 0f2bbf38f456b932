"""The command `label`: people compare answers, on a page or in the terminal."""

from __future__ import annotations

import getpass
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_gym.cli.inspection import MAX_NEW_TOKENS
from llm_gym.cli.options import with_options_of
from llm_gym.cli.served import Host, NoBrowser, Page, Port, refuse_without_page, serve_page
from llm_gym.stages.environment import AnswerConfig

if TYPE_CHECKING:
    from llm_gym.feedback.labelling.store_desk import StoreDesk
    from llm_gym.feedback.preferences.store import PreferenceStore

EXAMPLES = """\
Two answers of the built-in model to each of 50 prompts, to be compared in the browser:

\b
  llm-gym label votes.db --generate-from llm_gym/email-sft --max-prompts 50
  llm-gym label votes.db                        (goes on where it stopped)
  llm-gym label votes.db --export votes.jsonl   (rows to train on)
  llm-gym label votes.db --host 0.0.0.0         (a class votes from its phones)"""

LABELLING = Page(
    "labelling page", "every vote is saved at once", "read the comparisons and vote", "results"
)
_CLASS_OVERLAP = 0.1  # of the comparisons: 30 of 300, which tell agreement to 15 points
_CLASS_LEASE = 120.0  # seconds; a phone that was put away keeps nobody waiting for long

_GENERATION = "Making comparisons"

GenerateFrom = Annotated[
    str | None,
    typer.Option(
        help="Language model that answers every prompt twice: name or directory.",
        rich_help_panel=_GENERATION,
    ),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        help="File of prompts: .txt, .jsonl, .json, .csv or .parquet.",
        show_default="built-in requests for emails",
        rich_help_panel=_GENERATION,
    ),
]
MaxPrompts = Annotated[
    int | None,
    typer.Option(
        help="Only the first so many.",
        show_default="all; of the built-in ones 100",
        min=1,
        rich_help_panel=_GENERATION,
    ),
]
Temperature = Annotated[
    float,
    typer.Option(help="Temperature at which answers are sampled.", rich_help_panel=_GENERATION),
]
SamplingDevice = Annotated[
    str, typer.Option(help="Where the model runs: cpu, cuda or auto.", rich_help_panel=_GENERATION)
]


@with_options_of(AnswerConfig)
def label(
    store: Annotated[Path, typer.Argument(help="File of the votes (SQLite); made if missing.")],
    import_file: Annotated[
        Path | None,
        typer.Option(
            "--import",
            help='Add a file: rows with "prompt" and "answers" (two), to be compared; or '
            "preferences, which count as votes.",
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Write the votes as preferences in TRL's format (.jsonl, .parquet), and end."
        ),
    ] = None,
    rater: Annotated[str, typer.Option(help="Your name.", show_default="asks")] = "",
    votes_per_comparison: Annotated[
        int, typer.Option(help="How many raters shall judge each comparison.")
    ] = 1,
    overlap: Annotated[
        float | None,
        typer.Option(
            help="Share of the comparisons that one rater more shall judge, to measure agreement.",
            show_default=f"{_CLASS_OVERLAP:g} with a host that others reach, else 0",
        ),
    ] = None,
    budget: Annotated[
        int | None, typer.Option(help="Most questions to one rater.", show_default="all there are")
    ] = None,
    terminal: Annotated[
        bool, typer.Option("--terminal", help="Ask in this terminal instead of a browser.")
    ] = False,
    host: Host = "127.0.0.1",
    port: Port = 0,
    no_browser: NoBrowser = False,
    generate_from: GenerateFrom = None,
    prompts: Prompts = None,
    max_prompts: MaxPrompts = None,
    temperature: Temperature = 1.0,
    device: SamplingDevice = "cpu",
    seed: Annotated[
        int, typer.Option(help="Seed of the sampling, and of which answer is shown first.")
    ] = 0,
    **values: Any,
) -> None:
    """Let people compare answers, in the browser or in the terminal.

    Every vote is in the file at once: stop with Ctrl-C, go on with the
    same command. Several people may vote at the same time.
    """
    from llm_gym.feedback.labelling.addresses import is_loopback
    from llm_gym.feedback.labelling.store_desk import StoreDesk
    from llm_gym.feedback.preferences.store import PreferenceStore

    if terminal:
        elsewhere = None if is_loopback(host) else host
        refuse_without_page("leave out --terminal", host=elsewhere, port=port)
    config = AnswerConfig(**values)
    if generate_from is None:
        _check_needless(config, {"prompts": prompts, "max_prompts": max_prompts}, import_file)
    if import_file is None and generate_from is None and not store.exists():
        raise FileNotFoundError(
            f"there is no store {str(store)!r}; make one with --import FILE or --generate-from "
            "MODEL"
        )
    with PreferenceStore(store) as votes:
        if import_file is not None:
            _import(votes, import_file, config)
        if generate_from is not None:
            _generate(
                votes,
                generate_from,
                prompts,
                max_prompts,
                config,
                temperature=temperature,
                seed=seed,
                device=device,
            )
        if export is not None:
            print(f"preferences written to {export}: {votes.export_file(export):,}")
            return
        several = not terminal and not is_loopback(host)
        options = desk_options(votes_per_comparison, overlap, several=several)
        desk = StoreDesk(votes, **options, budget=budget, seed=seed)
        with _voting(desk, votes_per_comparison):
            if terminal:
                _in_terminal(desk, rater)
            else:
                _in_browser(desk, rater, host, port, browser=not no_browser)


def _check_needless(config: AnswerConfig, values: dict[str, Any], import_file: Path | None) -> None:
    """Refuses options that say how a model answers where none is asked."""
    used = () if import_file is None else ("bad_rows", "prompt_column")
    values = values | {
        each.name: getattr(config, each.name)
        for each in fields(config)
        if each.name not in used and getattr(config, each.name) not in (each.default, [])
    }
    given = ["--" + name.replace("_", "-") for name, value in values.items() if value is not None]
    if given:
        needs = "needs" if len(given) == 1 else "need"
        raise ValueError(f"{' and '.join(given)} {needs} --generate-from MODEL")


def _import(votes: PreferenceStore, path: Path, config: AnswerConfig) -> None:
    from llm_gym.feedback.preferences.files import read_comparisons

    comparisons = read_comparisons(
        path, prompt_column=config.prompt_column, bad_rows=config.bad_rows
    )
    if comparisons is None:
        if config.prompt_column is not None:
            raise ValueError(
                f"--prompt-column {config.prompt_column} is for rows with answers to be compared; "
                f"{path} holds preferences, whose prompt is in a column called prompt"
            )
        print(f"new votes from {path}: {votes.import_file(path, bad_rows=config.bad_rows):,}")
        return
    before = votes.progress().comparisons
    votes.add(comparisons)
    print(f"new comparisons from {path}: {votes.progress().comparisons - before:,}")


def _generate(
    votes: PreferenceStore,
    model: str,
    path: str | None,
    max_prompts: int | None,
    config: AnswerConfig,
    *,
    temperature: float,
    seed: int,
    device: str,
) -> None:
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.by_name import prompt_format_of, said_already, say_prompt_format
    from llm_gym.stages.compare import comparison_prompts, fitting_options, sample_comparisons

    quiet_libraries()
    shown = prompt_format_of(model, config.prompt_template, config.add_special_tokens)
    rows, options = fitting_options(
        model, comparison_prompts(path, max_prompts, config), config, MAX_NEW_TOKENS, shown
    )
    say_prompt_format(shown)
    print(f"{model} answers {len(rows):,} prompts twice ...", flush=True)
    with said_already():
        comparisons = sample_comparisons(
            model, rows, temperature=temperature, seed=seed, device=device, **options
        )
    votes.add(comparisons)
    if len(comparisons) < len(rows):
        print(
            f"left out {len(rows) - len(comparisons):,} prompts to which its answers were all alike"
        )


def desk_options(
    votes_per_comparison: int, overlap: float | None, *, several: bool
) -> dict[str, Any]:
    """How a desk hands out comparisons, which differs where many people vote at once.

    Args:
        votes_per_comparison: As asked for.
        overlap: As asked for; None is a share that measures agreement where several people vote.
        several: Whether they can.
    """
    share = overlap if overlap is not None else _CLASS_OVERLAP if several else 0.0
    if overlap is None and several:
        print(
            f"{100 * share:.0f} % of the comparisons go to one rater more, so that agreement can "
            "be measured (--overlap 0: none)"
        )
    options = {"votes_per_comparison": votes_per_comparison, "overlap": share}
    return options | ({"lease_seconds": _CLASS_LEASE} if several else {})


@contextmanager
def _voting(desk: StoreDesk, votes_per_comparison: int) -> Iterator[None]:
    """While people vote, until they are done or press Ctrl-C; says then what there is."""
    _check_work(desk.store, votes_per_comparison)
    try:
        yield
    except KeyboardInterrupt:
        print()  # behind the terminal's ^C
    _say_goodbye(desk.store)


def _check_work(votes: PreferenceStore, votes_per_comparison: int) -> None:
    progress = votes.progress(votes_per_comparison=votes_per_comparison)
    if not progress.comparisons:
        raise ValueError(
            f"{votes.path} holds no comparisons: add some with --import FILE or --generate-from "
            "MODEL"
        )
    if not progress.remaining:
        print(
            f"all {progress.comparisons:,} comparisons have the votes that are wanted; "
            f"--votes-per-comparison {votes_per_comparison + 1} asks for one more of each"
        )


def _in_terminal(desk: StoreDesk, rater: str) -> None:
    from rich.console import Console

    from llm_gym.feedback.labelling.keys import Keys
    from llm_gym.feedback.labelling.questions import checked_rater
    from llm_gym.feedback.labelling.terminal import label_in_terminal

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without UTF-8
    name = checked_rater(rater or _login())
    with Keys() as keys:
        label_in_terminal(desk, name, console=Console(), keys=keys)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise ValueError("nobody is logged in: give your name with --rater") from None


def _in_browser(desk: StoreDesk, rater: str, host: str, port: int, *, browser: bool) -> None:
    from llm_gym.feedback.labelling.server import create_app

    serve_page(create_app(desk, rater=rater, host=host), host, port, LABELLING, browser=browser)


def _say_goodbye(votes: PreferenceStore) -> None:
    from llm_gym.feedback.preferences.effort import vote_notes

    print("\n".join(vote_notes(list(votes.votes()))))
    if votes.progress().votes:
        command = f"llm-gym label {shlex.quote(str(votes.path))} --export preferences.jsonl"
        print(f"rows to train on: {command}")
