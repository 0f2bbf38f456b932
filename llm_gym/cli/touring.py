"""The command `tour`: the road from a model of text to RLHF, in the terminal, in five minutes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_gym.cli.options import Output, Seed
from llm_gym.cli.runs import interruptible
from llm_gym.cli.served import NoBrowser

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from llm_gym.stages.tour.road import Road
    from llm_gym.stages.tour.stops import Stop

EXAMPLES = """\
\b
  llm-gym tour
  llm-gym tour --no-watch --output runs/my-tour

Stopped with Ctrl-C, or killed: the same command goes on."""


def tour(
    seed: Seed = 0,
    output: Output = Path("runs/tour"),
    watch: Annotated[
        bool, typer.Option("--watch/--no-watch", help="End with the page on what was trained.")
    ] = True,
    no_browser: NoBrowser = False,
) -> None:
    """Walk the road from a model of text to RLHF: ten stops, a picture and a sentence each.

    It trains something small on the way, in minutes, offline, and keeps
    the pictures as PNG.
    """
    from rich.console import Console

    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.tour.road import on_the_road
    from llm_gym.stages.tour.stops import STOPS

    quiet_libraries()
    again = f"llm-gym tour --seed {seed} --output {shlex.quote(str(output))}"
    console = Console(highlight=False)
    with interruptible(f"stopped; the same command goes on: {again}"):
        with on_the_road(output, seed) as road:
            draws = _draws()
            for number, stop in enumerate(STOPS, start=1):
                _stop(console, road, stop, f"{number} of {len(STOPS)}", draws)
        _end(console, road, draws, watch=watch, browser=not no_browser)


def _stop(console: Console, road: Road, stop: Stop, place: str, draws: bool) -> None:
    from rich.text import Text

    from llm_gym.cli.tour_pictures import picture_of, sentence_of
    from llm_gym.files.terminal import write_png

    console.rule(Text(f"{place}  {stop.title}", style="bold"), align="left")
    if stop.missing and not road.is_done(stop):
        print(f"left out: it comes with a plug-in (in a checkout: pip install -e {stop.folder})")
        return
    with _waiting(stop.title):
        figures = road.figures_of(stop)
    picture, sentence = picture_of(stop.name, figures), sentence_of(stop.name, figures)
    console.print(picture)
    console.print()
    console.print(Text(sentence, style="bold"))
    console.print()
    path = road.picture_of(stop)
    if draws and not path.exists():
        write_png(_page(place, stop.title, picture, sentence), path)


def _page(place: str, title: str, picture: RenderableType, sentence: str) -> RenderableType:
    """A picture with its heading and its sentence, to be kept."""
    from rich.console import Group
    from rich.text import Text

    return Group(Text(f"{place}  {title}", style="blue"), "", picture, "", Text(sentence))


@contextmanager
def _waiting(what: str) -> Iterator[None]:
    """Shows on a terminal that something is at work, and for how long."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        bar.add_task(what, total=None)
        yield


def _draws() -> bool:
    from llm_gym.files.terminal import can_draw

    if can_draw():
        return True
    print("llm-gym: pictures are not kept: pip install 'llm-gym[render]'", file=sys.stderr)
    return False


def _end(console: Console, road: Road, draws: bool, *, watch: bool, browser: bool) -> None:
    from llm_gym.stages.tour.road import PICTURES

    root = road.tour.root
    if draws:
        print(f"pictures:         {root / PICTURES}")
    print(f"the whole report: {road.tour.rlhf / 'report.html'}")
    print(f"talk to it:       llm-gym chat --model {shlex.quote(str(road.tour.rlhf / 'model'))}")
    print(f"see it learn:     llm-gym watch {shlex.quote(str(road.tour.rlhf))}")
    if watch and _attended():
        _watch(road.tour.rlhf, browser)


def _attended() -> bool:
    """Whether somebody sits at a terminal: else nobody could end the page."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _watch(run: Path, browser: bool) -> None:
    try:
        from llm_gym.cli.watching import watch
        from llm_gym.stages.watch import server  # noqa: F401 -- says what is missing
    except ImportError as error:
        print(f"llm-gym: the page is left out: {error}", file=sys.stderr)
        return
    watch(run, no_browser=not browser)
