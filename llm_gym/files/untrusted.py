"""Text written by a model, made safe to show.

A language model may write anything: HTML, terminal escape sequences, rich's `[markup]`, characters
that reverse the direction of the line. Every place that shows its text goes through this module.
"""

from __future__ import annotations

import html
import re
import unicodedata
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

# Control, format (bidirectional overrides, zero-width), surrogate, private, line and paragraph
# separators: invisible, or obeyed by a terminal rather than shown.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ZERO_WIDTH_NON_JOINER, _ZERO_WIDTH_JOINER = "\u200c", "\u200d"
_JOINER_PAIR = frozenset({_ZERO_WIDTH_NON_JOINER, _ZERO_WIDTH_JOINER})
_JOINERS = re.compile(f"[{_ZERO_WIDTH_NON_JOINER}{_ZERO_WIDTH_JOINER}]")
_SCRIPT = frozenset({"Lo", "Mn", "Mc"})  # Arabic and Indic letters, and the marks on letters
_EMOJI = frozenset({"So", "Sk", "Mn"})  # pictures, skin colours, variation selectors

MOST_RUNS = 10_000
"""The most runs that a text is split into: each is an element of the page that shows it."""


def printable(text: str, *, multiline: bool = True) -> str:
    r"""Spells out every character that a terminal or browser would obey instead of show.

    Args:
        text: Anything, lone surrogates included.
        multiline: Keep line ends; otherwise they are spelled out too (`\n`), for one-line output.

    Returns:
        The text with unsafe characters written as `\xNN`, `\uNNNN` or `\UNNNNNNNN`.
    """
    escapes = _escapes(text, keep="\n" if multiline else "")
    return _translated(text, escapes)


def shortened(text: str, width: int) -> str:
    """One safe line of at most `width` characters, its end replaced by an ellipsis if need be."""
    line = printable(text, multiline=False)
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def as_html(text: str) -> str:
    """Text for the inside of an element or of a double-quoted attribute of a web page."""
    return html.escape(printable(text), quote=True)


def as_rich(text: str, style: str = "") -> Text:
    """A `rich.text.Text`, which rich prints literally: `[red]` in it is five characters."""
    from rich.text import Text

    return Text(printable(text), style=style)


def as_markdown(text: str) -> str:
    """A Markdown block that shows the text literally (for TensorBoard's text page).

    An indented block is used because, unlike a fence, nothing inside it can close it.
    """
    return "\n".join(f"    {line}" for line in printable(text).split("\n"))


def pieces(text: str) -> list[tuple[str, bool]]:
    r"""Splits text into runs that are shown as they are and runs that are spelled out.

    People who compare answers must see the characters that `printable` spells out, told apart from
    the text; but also tabs, emoji and scripts that need joiners as their writer meant them.

    Args:
        text: Anything, lone surrogates included.

    Returns:
        `(run, spelled)`: where `spelled` is true, `run` is the escape (`\u202e`) of characters that
        a reader would not see otherwise: controls, changes of direction, zero-width and unassigned
        ones. Line ends and tabs stay; CR LF is one line end. An empty text has no runs. Of a text
        with more than `MOST_RUNS` the last holds all the rest, spelled out as a whole, its own
        backslashes doubled.
    """
    text = text.replace("\r\n", "\n")
    escapes = _escapes(text, keep="\n\t")
    hidden = escapes.keys()
    marked = _without_working_joiners(text) if hidden & _JOINER_PAIR else text
    runs: list[tuple[str, bool]] = []
    start = 0
    for spelled, characters in groupby(marked, key=hidden.__contains__):
        if len(runs) == MOST_RUNS - 1:
            return [*runs, (_translated(text[start:], {**escapes, "\\": "\\\\"}), True)]
        end = start + sum(1 for _ in characters)
        run = text[start:end]
        runs.append(("".join(map(escapes.__getitem__, run)) if spelled else run, spelled))
        start = end
    return runs


def _escapes(text: str, *, keep: str) -> dict[str, str]:
    """How each unsafe character of a text is spelled out, those in `keep` left out."""
    return {
        character: character.encode("unicode_escape").decode("ascii")
        for character in set(text).difference(keep)
        if unicodedata.category(character) in _UNSAFE_CATEGORIES
    }


def _translated(text: str, escapes: dict[str, str]) -> str:
    table = {ord(character): escape for character, escape in escapes.items()}
    return text.translate(table) if table else text


def _without_working_joiners(text: str) -> str:
    """The text with a letter in the place of every joiner that is shown as it is."""
    return _JOINERS.sub(lambda found: "x" if _joins(text, found.start()) else found[0], text)


def _joins(text: str, place: int) -> bool:
    """Whether the joiner there does what it is for: between letters, or between emoji."""
    if not 0 < place < len(text) - 1:
        return False
    around = {unicodedata.category(text[place - 1]), unicodedata.category(text[place + 1])}
    return around <= _SCRIPT or (text[place] == _ZERO_WIDTH_JOINER and around <= _EMOJI)
