"""A bar in a terminal, a line elsewhere, nothing where nobody wants either."""

from __future__ import annotations

import io

import pytest
import rich.console
from rich.text import Text

from llm_gym.files.counting import counting


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch, **options) -> str:
    console = rich.console.Console(file=stream, width=100)
    monkeypatch.setattr(rich.console, "Console", lambda stderr: console)
    with counting("reading", 3, "files", **options) as advance:
        begun = stream.getvalue()
        for _ in range(3):
            advance(1)
    return begun if not stream.isatty() else stream.getvalue()


def test_a_pipe_is_told_once_and_at_the_beginning(monkeypatch):
    stream = io.StringIO()
    assert shown(stream, monkeypatch) == "reading: 3 files\n" == stream.getvalue()


def test_a_terminal_has_a_bar_that_ends_full(monkeypatch):
    assert "3/3 files" in Text.from_ansi(shown(Terminal(), monkeypatch)).plain


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_quiet_shows_nothing(monkeypatch, kind):
    stream = kind()
    shown(stream, monkeypatch, quiet=True)
    assert "reading" not in stream.getvalue()
