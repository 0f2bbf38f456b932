"""The command `chat`: one model or several side by side, in the terminal or on a page."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_gym.cli.chat_colours import COLOURS, Painter
from llm_gym.cli.options import Device, with_options_of
from llm_gym.cli.runs import interruptible
from llm_gym.cli.served import NoBrowser, Page, Port, refuse_without_page, serve_page
from llm_gym.files.settings import config_from
from llm_gym.files.untrusted import as_rich, shortened
from llm_gym.language_models.embedded import SFT_MODEL
from llm_gym.stages.chat_settings import ChatConfig

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from llm_gym.stages.chat import Answer, Conversation

EXAMPLES = """\
\b
  llm-gym chat models/smollm2
  llm-gym chat llm_gym/email-sft runs/rlhf/model --page
  llm-gym chat runs/a/model runs/b/model --colour score --scorer politeness

/reset forgets what was said, /quit or Ctrl-D ends; Ctrl-C stops an
answer, and ends where none is being written."""

HELP = (
    "/reset forgets what was said   /colour NAME colours tokens   /quit ends   Ctrl-C stops an "
    "answer"
)
CHATTING = Page("side by side", "what was said is forgotten", "talk to the models")
_NARROWEST = 40  # columns of a panel beside another
_STYLES = ("cyan", "magenta", "green", "yellow")


@with_options_of(ChatConfig)
def chat(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Language models, by name or directory: one, or several to see side by side.",
            show_default=SFT_MODEL,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="The same, as an option.", show_default="none"),
    ] = None,
    page: Annotated[bool, typer.Option("--page", help="On a page in the browser.")] = False,
    colour: Annotated[
        str | None,
        typer.Option(
            help=f"Colour tokens by {', '.join(COLOURS)}; the page has a list of its own."
        ),
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(help="Who scores the answers; named as `llm-gym score` has it.")
    ] = None,
    device: Device = "cpu",
    port: Port = 0,
    no_browser: NoBrowser = False,
    **values: Any,
) -> None:
    """Talk to a model, or to several at once, side by side.

    Every model answers the same prompts by the same settings and seed,
    and remembers its own answers.
    """
    from rich.console import Console

    from llm_gym.language_models.loading import quiet_libraries, torch_device
    from llm_gym.scorers.by_name import scorer_from_name
    from llm_gym.stages.chat import Conversation

    if not page:
        refuse_without_page("add --page", port=port, no_browser=no_browser)
    config = config_from(ChatConfig, values)
    quiet_libraries()
    where = torch_device(device)
    judge = None if scorer is None else scorer_from_name(scorer, where)
    names = [*(models or []), *(model or [])] or [SFT_MODEL]
    talks = [Conversation(name, config, where) for name in names]
    if page:
        from llm_gym.stages.chat_page.server import create_app
        from llm_gym.stages.chat_page.table import Table

        app = create_app(Table(talks, judge, scorer or ""))
        with interruptible("the models have left the table"):
            serve_page(app, "127.0.0.1", port, CHATTING, browser=not no_browser)
        return
    painter = Painter(judge)
    painter.choose(colour, talks)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without UTF-8
    console = Console()
    say_hello(console, talks)
    converse(console, talks, painter)


def say_hello(console: Console, talks: Sequence[Conversation]) -> None:
    """Says who answers, how they are shown their prompts, and what can be typed."""
    from rich.text import Text

    for number, title in enumerate(_titles(talks)):
        console.print(as_rich(_shortened_left(title, console.width), style=_style(number)))
    formats = dict.fromkeys(str(talk.prompt_format) for talk in talks)
    for shown in formats:
        line = shortened(f"prompts are shown as {shown}", 2 * console.width)
        console.print(as_rich(line, style="dim"))
    console.print(Text(HELP, style="dim"))


def converse(console: Console, talks: Sequence[Conversation], painter: Painter) -> None:
    """Reads prompts until there are no more, and shows every model's answer.

    Args:
        console: Where to print.
        talks: The models.
        painter: Colours their tokens, and has them judged.
    """
    while True:
        try:
            prompt = _read(console)
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if prompt == "/quit":
            return
        if prompt == "/reset":
            for talk in talks:
                talk.reset()
            console.print("forgotten", style="dim")
        elif prompt.split()[:1] == ["/colour"]:
            _choose_colour(console, talks, painter, prompt.partition(" ")[2].strip())
        elif prompt.startswith("/"):
            console.print(as_rich(f"there is no {prompt.split()[0]}; {HELP}", style="yellow"))
        elif prompt:
            try:
                answer(console, talks, prompt, painter)
            except ValueError as error:  # of this prompt; the next may be fine
                console.print(as_rich(str(error), style="red"))


def _read(console: Console) -> str:
    prompt = input("> ")
    if not sys.stdin.isatty():
        console.print(as_rich(prompt))  # so that what was printed can be read by itself
    return prompt.strip()


def _choose_colour(
    console: Console, talks: Sequence[Conversation], painter: Painter, name: str
) -> None:
    try:
        painter.choose(name or None, talks)
    except ValueError as error:
        console.print(as_rich(str(error), style="yellow"))
        return
    console.print(as_rich(painter.legend(), style="dim"))


def answer(console: Console, talks: Sequence[Conversation], prompt: str, painter: Painter) -> None:
    """Lets every model answer, a token of each in turn, and shows it as it grows.

    Args:
        console: Where to print.
        talks: The models.
        prompt: What the user says.
        painter: Colours their tokens, and has them judged.

    Raises:
        ValueError: See `Conversation.answer`.
    """
    from rich.live import Live

    from llm_gym.stages.chat import Answer

    answers = [Answer.empty()] * len(talks)
    streams = {n: talk.write(prompt) for n, talk in enumerate(talks)}
    with _closing(streams), Live(console=console, transient=True, auto_refresh=False) as live:
        try:
            while streams:
                for number, stream in list(streams.items()):
                    try:
                        answers[number] = next(stream)
                    except StopIteration:
                        del streams[number]
                texts = painter.growing(answers)
                live.update(_tail(console, side_by_side(talks, texts, console.width)), refresh=True)
        except KeyboardInterrupt:  # the half that is there stays
            pass
    console.print(side_by_side(talks, painter.finished(prompt, answers), console.width))


@contextmanager
def _closing(streams: dict[int, Generator[Answer, None, None]]) -> Iterator[None]:
    """Has models remember an answer that was stopped now, not when memory is cleaned."""
    try:
        yield
    finally:
        for stream in streams.values():
            stream.close()


def side_by_side(
    talks: Sequence[Conversation], texts: Sequence[Text], width: int
) -> RenderableType:
    """Answers in columns, or below each other where the terminal is narrow.

    Args:
        talks: The models.
        texts: What each has written, made safe.
        width: Columns of the terminal.
    """
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table

    if len(talks) == 1:
        return texts[0]
    room = width // len(talks) if width >= _NARROWEST * len(talks) else width
    panels = [
        Panel(
            text,
            title=as_rich(_shortened_left(title, room - 6), style=_style(number)),
            title_align="left",
            border_style=_style(number),
        )
        for number, (title, text) in enumerate(zip(_titles(talks), texts, strict=True))
    ]
    if room == width:
        return Group(*panels)
    grid = Table.grid(expand=True)
    for _ in panels:
        grid.add_column(ratio=1)
    grid.add_row(*panels)
    return grid


def _titles(talks: Sequence[Conversation]) -> list[str]:
    """Names; the same model twice is told apart by its place."""
    names = [talk.name for talk in talks]
    return [
        f"{n}. {name}" if names.count(name) > 1 else name for n, name in enumerate(names, start=1)
    ]


def _shortened_left(name: str, width: int) -> str:
    """One safe line; of a path the end is what tells models apart."""
    line = shortened(name, len(name) * 10)
    return line if len(line) <= width else "…" + line[-max(width - 1, 1) :]


def _style(number: int) -> str:
    return _STYLES[number % len(_STYLES)]


def _tail(console: Console, whole: RenderableType) -> RenderableType:
    """The last lines of what is growing, as many as the terminal has."""
    from rich.segment import Segment, Segments

    lines = console.render_lines(whole, pad=False)
    if len(lines) < console.height:
        return whole
    kept = lines[-(console.height - 1) :]
    return Segments([part for line in kept for part in [*line, Segment.line()]])
