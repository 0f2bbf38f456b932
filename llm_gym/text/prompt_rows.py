"""Reading prompts from what users pass: lists, files, data sets and streams."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

RESERVED_COLUMNS = ("prompts", "completions", "completion")


class PromptRow(NamedTuple):
    """A prompt as the user gave it, with its further columns, which go to the scorer by name."""

    text: str
    columns: Mapping[str, Any]


def read_prompts(prompts: Any) -> list[PromptRow] | Iterator[Any]:
    """Reads the `prompts` argument of an environment.

    Args:
        prompts: Sequence of str or of dict rows with a "prompt" key, path to a `.txt` file (one
            prompt a line, blank lines skipped) or a `.jsonl` file, or an iterator.

    Returns:
        A non-empty list for anything of known length; an iterator over raw items for a stream.

    Raises:
        TypeError: Not something prompts can be read from.
        ValueError: No prompts, or one of them is malformed; the message names the index or line.
        FileNotFoundError: The file does not exist.
    """
    if isinstance(prompts, (str, PathLike)):
        return _read_file(prompts)
    if isinstance(prompts, Mapping) or not isinstance(prompts, Iterable):
        raise TypeError(
            "prompts must be a sequence of str or dict, a path to a .txt or .jsonl file, or an "
            f"iterator, got {type(prompts).__name__}"
        )
    if not hasattr(prompts, "__len__"):
        return iter(prompts)
    rows = [as_row(item, f"prompts[{index}]") for index, item in enumerate(prompts)]
    if not rows:
        raise ValueError("prompts is empty: pass at least one prompt")
    return rows


def as_row(item: Any, where: str) -> PromptRow:
    """Checks one prompt.

    Args:
        item: A str, or a mapping with a "prompt" key and further columns.
        where: Where it came from, for the message.

    Returns:
        The row.

    Raises:
        TypeError: Neither a str nor a mapping.
        ValueError: The prompt is missing or empty, or a column's name is taken.
    """
    if isinstance(item, Mapping):
        if "prompt" not in item:
            raise ValueError(f'{where} has no "prompt" key, only {sorted(map(str, item))}')
        text = item["prompt"]
        columns = {str(name): value for name, value in item.items() if name != "prompt"}
        for name in RESERVED_COLUMNS:
            if name in columns:
                raise ValueError(
                    f"{where} has a column {name!r}, a name the scorer's own arguments use; "
                    "rename it"
                )
    else:
        text, columns = item, {}
    if not isinstance(text, str):
        raise TypeError(f"{where} must be a str, got {type(text).__name__}")
    if not text:
        raise ValueError(f"{where} is empty: a prompt needs at least one character")
    return PromptRow(text, columns)


def _read_file(path: str | PathLike[str]) -> list[PromptRow]:
    file = Path(fspath(path))
    if file.suffix not in (".txt", ".jsonl"):
        raise ValueError(
            f"prompts={str(path)!r} is taken as a path, which must end in .txt or .jsonl; "
            "for a single prompt pass a list with one string"
        )
    if not file.is_file():
        raise FileNotFoundError(f"prompts={str(path)!r}: there is no such file")
    # utf-8-sig: files written on Windows often begin with a byte order mark.
    lines = file.read_text(encoding="utf-8-sig").split("\n")
    parse = _parse_json if file.suffix == ".jsonl" else as_row
    rows = [
        parse(line.rstrip("\r"), f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not rows:
        raise ValueError(f"prompts={str(path)!r} holds no prompts")
    return rows


def _parse_json(line: str, where: str) -> PromptRow:
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON ({error.msg}, column {error.colno})") from error
    return as_row(item, where)
