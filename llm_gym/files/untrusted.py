"""Text written by a model, made safe to show.

A language model may write anything: HTML, terminal escape sequences, rich's `[markup]`, characters
that reverse the direction of the line. Every place that shows its text goes through this module.
"""

from __future__ import annotations

import html
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["as_html", "as_markdown", "as_rich", "printable", "shortened"]

# Control, format (bidirectional overrides, zero-width), surrogate, private, line and paragraph
# separators: invisible, or obeyed by a terminal rather than shown.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, *, multiline: bool = True) -> str:
    r"""Spells out every character that a terminal or browser would obey instead of show.

    Args:
        text: Anything, lone surrogates included.
        multiline: Keep line ends; otherwise they are spelled out too (`\n`), for one-line output.

    Returns:
        The text with unsafe characters written as `\xNN`, `\uNNNN` or `\UNNNNNNNN`.
    """
    keep = {"\n"} if multiline else set()
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in _UNSAFE_CATEGORIES
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


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
