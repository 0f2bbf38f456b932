"""From the bytes of a text file to its lines, and the check of every text that is read.

Files are UTF-8, or UTF-16 or UTF-32 where a byte order mark says so; without one these two are an
error by name. A byte order mark is no part of the text, at the beginning of the file or of a line
(where files were joined); lines end in LF, CRLF or, where there is neither, CR.
"""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterator
from typing import Any

_MARK = "\ufeff"
# The mark of UTF-32 in little-endian order begins like that of UTF-16, so it is tried first.
_WIDE = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Text of four bytes a character may pass for text of two, with zeros in between; so it comes first.
_UNMARKED = {
    "utf-32-le": "UTF-32",
    "utf-32-be": "UTF-32",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
}
_LOOKED_AT = 10_000  # characters
_HOW_TO_SAVE = "save the file as UTF-8"


def decode(data: bytes) -> str:
    """A whole text, with LF for every end of a line.

    Args:
        data: The file.

    Raises:
        ValueError: It is no text in an encoding that is read; the message has the line's number.
    """
    lines = []
    for number, line in numbered_lines(data):
        if isinstance(line, ValueError):
            raise ValueError(f"line {number}: {line}") from line
        lines.append(line)
    return "\n".join(lines)


def numbered_lines(data: bytes) -> Iterator[tuple[int, str | ValueError]]:
    r"""The lines of a text, counted from 1, without their ends.

    A line ends at `\n` only, and not where `str.splitlines` ends one: a text may hold U+2028.

    Args:
        data: The file.

    Yields:
        Number and text of a line; an error instead of the text where it cannot be read.
    """
    encoding = next((name for mark, name in _WIDE.items() if data.startswith(mark)), None)
    if encoding is not None:
        try:
            data = data.decode(encoding).encode("utf-8")
        except UnicodeError as error:
            yield 1, ValueError(f"not {encoding.upper()}, though it begins so ({error})")
            return
    elif (unmarked := _unmarked(data)) is not None:
        yield (
            1,
            ValueError(
                f"a zero byte (byte {data.index(0) + 1} of the file), which no text has: it is "
                f"{unmarked} without a byte order mark; {_HOW_TO_SAVE}"
            ),
        )
        return
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    for number, line in enumerate(data.split(b"\n"), start=1):
        yield number, _decoded(line.removesuffix(b"\r"))


def _unmarked(data: bytes) -> str | None:
    """What a file is written in that has no mark, if it is text in UTF-16 or UTF-32.

    Asked of the whole file, since single lines may have no zero byte, and may even be UTF-8: 乡 is
    the bytes of "aN". In such text every line ends in one, though.
    """
    if 0 not in data:
        return None
    for encoding, name in _UNMARKED.items():
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if ("\n" in text or b"\n" not in data) and all(map(_is_written, text[:_LOOKED_AT])):
            return name
    return None


def _is_written(character: str) -> bool:
    """Whether people write it: neither a control character nor one that is not assigned."""
    return character in "\t\n\r\f" or unicodedata.category(character) not in ("Cc", "Cn", "Co")


def _decoded(line: bytes) -> str | ValueError:
    if b"\0" in line:
        return ValueError(
            f"a zero byte at column {line.index(0) + 1}, which no text has; it looks like UTF-16 "
            f"without a byte order mark; {_HOW_TO_SAVE}"
        )
    try:
        return line.decode("utf-8").removeprefix(_MARK)
    except UnicodeDecodeError as error:
        return ValueError(
            f"not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1}); "
            f"{_HOW_TO_SAVE}"
        )


def check_text(name: str, text: Any) -> None:
    """Refuses what is no text, is blank, or cannot be written as UTF-8.

    Args:
        name: What it is called, for the message.
        text: The text.

    Raises:
        TypeError: Not a str.
        ValueError: Empty or only white space; or a lone surrogate, half of a character.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text, got {text!r:.80} of type {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"{name} is empty ({text!r:.80})")
    check_characters(name, text)


def check_characters(name: str, text: str) -> None:
    """Raises `ValueError` for a lone surrogate, as `check_text`."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} has a lone surrogate at character {error.start}, which no file can hold; "
            "replace it"
        ) from None
