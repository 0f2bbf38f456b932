"""The page's work in a terminal: for a machine without a browser, or over ssh."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Literal

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from llm_gym.feedback.labelling.keys import Keys
from llm_gym.feedback.labelling.questions import (
    ConflictError,
    Desk,
    Question,
    Reply,
    Summary,
    Verdict,
)
from llm_gym.files.untrusted import pieces

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Command = Literal["undo", "quit"]

KEYS: dict[str, Verdict | Command] = {
    "left": "left",
    "1": "left",
    "right": "right",
    "2": "right",
    "down": "tie",
    "t": "tie",
    "s": "skip",
    "u": "undo",
    "q": "quit",
}
COMPARISON_HINT = "← 1 is better   → 2 is better   ↓ tie   s skip   u undo   q quit"
SCORE_HINT = "type a score from 0 to 100, then Enter   s skip   q quit"
_BESIDE = 90  # columns from which two answers fit side by side


def label_in_terminal(desk: Desk, rater: str, *, console: Console, keys: Keys) -> None:
    """Asks one question after the other until none is left or the rater quits.

    Args:
        desk: Hands out the questions and takes the replies.
        rater: Who answers.
        console: Where to print.
        keys: Open; where the answers come from. Its end is the same as quitting.
    """
    question = desk.next(rater)
    while True:
        summary = desk.summary(rater)
        shown = time.monotonic()
        action: Verdict | float | Command | None
        try:
            if question is None:
                action = _at_the_end(summary, console, keys)
            else:
                action = ask(question, console=console, keys=keys, summary=summary)
        except EOFError:
            return
        if action == "undo":
            undo_id = summary.undo_id
            taken_back = None if undo_id is None else desk.undo(rater, undo_id)
            question = taken_back or desk.next(rater)
        elif action == "quit" or action is None or question is None:
            return
        else:
            reply = reply_to(question, action, time.monotonic() - shown)
            if not _deliver(desk, rater, reply, console, keys):
                return
            question = desk.next(rater)


def ask(
    question: Question,
    *,
    console: Console,
    keys: Keys,
    summary: Summary,
    timeout: float | None = None,
) -> Verdict | float | Command | None:
    """Shows a question and waits for the verdict.

    Args:
        question: What to judge.
        console: Where to show it.
        keys: Open; where the verdict comes from.
        summary: What stands above and below the question.
        timeout: Seconds to wait; None waits for ever.

    Returns:
        A verdict, a score for a question of that kind, or what else the rater wants; None if the
        time is up.

    Raises:
        EOFError: The input has ended.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    if console.is_terminal:
        console.clear()
    console.print(_shown(question, summary, console.width))
    typed = ""
    while True:
        key = keys.read(None if deadline is None else max(deadline - time.monotonic(), 0.0))
        if key is None:
            return None
        action = KEYS.get(key.lower())
        if question.kind == "comparison":
            if action is not None:
                return action
        elif action in ("skip", "quit"):
            return action
        elif key == "enter" and typed and int(typed) <= 100:
            console.print()
            return float(typed)
        elif key == "backspace" and typed:
            typed = typed[:-1]
            console.print("\b \b", end="")
        elif key in "0123456789" and len(typed) < 3:
            typed += key
            console.print(key, end="", highlight=False)


def reply_to(question: Question, verdict: Verdict | float, seconds: float) -> Reply:
    """A reply with a key of its own."""
    return Reply(
        question_id=question.id,
        fingerprint=question.fingerprint,
        verdict=verdict,
        shown_first=question.shown_first,
        seconds=seconds,
        key=uuid.uuid4().hex,
    )


def _at_the_end(summary: Summary, console: Console, keys: Keys) -> Command:
    console.print(_progress(summary), *_notes(summary), sep="\n")
    console.print("That was all. Thank you!   u undo   any other key ends")
    return "undo" if (keys.read() or "").lower() == "u" else "quit"


def _deliver(desk: Desk, rater: str, reply: Reply, console: Console, keys: Keys) -> bool:
    """Hands in a reply; again, as often as the rater wishes, while the store cannot be written."""
    while True:
        try:
            desk.answer(rater, reply)
            return True
        except ConflictError as error:
            console.print(_plain(f"Not counted: {error}", "yellow"))
            return True
        except OSError as error:
            console.print(_plain(f"Not saved yet: {error}", "yellow"))
            console.print("any key tries again   q gives up this vote and quits")
            try:
                if keys.read() == "q":
                    return False
            except EOFError:
                return False


# ------------------------------------------------------------------ what is shown


def _shown(question: Question, summary: Summary, width: int) -> RenderableType:
    answers = [
        Panel(_text(answer), title=str(number), title_align="left", border_style="blue")
        for number, answer in enumerate(question.answers, start=1)
    ]
    if question.kind == "score":
        answers[0].title = None
    beside: RenderableType = Group(*answers)
    if len(answers) == 2 and width >= _BESIDE:
        grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
        for _ in answers:
            grid.add_column(ratio=1)
        grid.add_row(*answers)
        beside = grid
    hint = COMPARISON_HINT if question.kind == "comparison" else SCORE_HINT
    return Group(
        _progress(summary),
        Panel(_text(question.prompt), title="Prompt", title_align="left", border_style="dim"),
        beside,
        *_notes(summary),
        Text(hint, style="bold"),
    )


def _progress(summary: Summary) -> Text:
    text = (
        f"{summary.done} answered"
        if summary.total is None
        else f"{summary.done} of {summary.total}"
    )
    if summary.seconds_left is not None and summary.seconds_left > 0:
        text += f", {duration(summary.seconds_left)} left at your pace"
    return _plain(f"{text} ({summary.rater})", "dim")


def _notes(summary: Summary) -> list[Text]:
    return [_plain(note, "dim") for note in summary.notes]


def duration(seconds: float) -> str:
    """A length of time in words, roughly."""
    if seconds < 60:
        return "less than a minute"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} hours"


def _text(untrusted: str) -> Text:
    """Text by a model: nothing in it is markup or an order to the terminal."""
    text = Text()
    for run, spelled in pieces(untrusted):
        text.append(run.expandtabs(4), style="black on yellow" if spelled else "")
    return text


def _plain(line: str, style: str) -> Text:
    text = _text(line)
    text.stylize(style)
    return text
