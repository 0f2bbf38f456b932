"""Single keys from a terminal, without Enter; or from a pipe, a character at a time."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Any, TextIO

_ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}  # after ESC [ or ESC O (ECMA-48)
_WINDOWS_ARROWS = {"H": "up", "P": "down", "M": "right", "K": "left"}
_AFTER_ESCAPE = 0.05  # seconds in which the rest of an arrow key arrives


class Keys:
    """Reads keys while it is open; the terminal is as before afterwards.

    Args:
        stream: Where from; None is standard input. What is no terminal is read by lines.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdin if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._saved: list[Any] | None = None
        self._line: list[str] = []

    def __enter__(self) -> Keys:
        if self._is_terminal and os.name != "nt":
            import termios
            import tty

            self._saved = termios.tcgetattr(self._stream.fileno())
            tty.setcbreak(self._stream.fileno())  # Ctrl-C still interrupts
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(self._stream.fileno(), termios.TCSADRAIN, self._saved)
            self._saved = None

    def read(self, timeout: float | None = None) -> str | None:
        """Waits for a key.

        Args:
            timeout: Seconds to wait, at a terminal; None waits for ever.

        Returns:
            A character, or "left", "right", "up", "down", "enter", "backspace", "escape"; None if
            the time is up.

        Raises:
            EOFError: There is no more input.
        """
        if not self._is_terminal:
            return self._read_line()
        if os.name == "nt":
            return _read_windows(timeout)
        return self._read_posix(timeout)

    def _read_line(self) -> str:
        if not self._line:
            line = self._stream.readline()
            if not line:
                raise EOFError("no more input")
            self._line = [*line.rstrip("\r\n"), "enter"]
        return self._line.pop(0)

    def _read_posix(self, timeout: float | None) -> str | None:
        if not self._ready(timeout):
            return None
        character = self._character()
        if character == "\x1b":
            if not self._ready(_AFTER_ESCAPE) or self._character() not in "[O":
                return "escape"
            return _ARROWS.get(self._character(), "escape")
        return _named(character)

    def _ready(self, timeout: float | None) -> bool:
        from select import select

        return bool(select([self._stream.fileno()], [], [], timeout)[0])

    def _character(self) -> str:
        """One character as UTF-8. Not through the stream, whose buffer `select` cannot see."""
        raw = b""
        while len(raw) < 4:
            byte = os.read(self._stream.fileno(), 1)
            if not byte or byte == b"\x04":  # Ctrl-D
                raise EOFError("no more input")
            raw += byte
            try:
                return raw.decode()
            except UnicodeDecodeError:
                continue
        return "\ufffd"


def _named(character: str) -> str:
    if character in "\r\n":
        return "enter"
    return "backspace" if character in "\x7f\b" else character


def _read_windows(timeout: float | None) -> str | None:
    import msvcrt

    console: Any = msvcrt  # typed for Windows only
    deadline = None if timeout is None else time.monotonic() + timeout
    while not console.kbhit():  # getwch would not let Ctrl-C through
        if deadline is not None and time.monotonic() > deadline:
            return None
        time.sleep(0.02)
    character = console.getwch()
    if character in "\x00\xe0":
        return _WINDOWS_ARROWS.get(console.getwch(), "escape")
    if character == "\x03":
        raise KeyboardInterrupt
    if character == "\x1a":  # Ctrl-Z
        raise EOFError("no more input")
    return _named(character)
