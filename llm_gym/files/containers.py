"""Rows of files, each with its place: text, JSON Lines, JSON, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

from llm_gym.files.encoding import decode, numbered_lines

ENDINGS = (".txt", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
# How files of gzip, zip (and of office programs), bzip2, xz and zstd begin.
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_LONGEST_CELL = 2**31 - 1  # the module's own limit is 131,072 characters


class Row(NamedTuple):
    """A row and where it stands.

    Attributes:
        place: For messages: "pairs.jsonl, line 3", "pairs.parquet, row 3" or "pairs[2]".
        value: What stands there; a `ValueError` where it cannot be read.
    """

    place: str
    value: Any


def file_rows(path: str | PathLike[str], name: str, *, whole_text: bool = False) -> list[Row]:
    """Reads a file by its ending.

    Args:
        path: `.txt` (a line is a row, blank ones left out), `.jsonl` (JSON Lines), `.json` (an
            array of rows, an object of columns, or JSON Lines), `.csv` and `.tsv` (the first line
            names the columns; every cell is a text; where the first line has no comma, semicolons
            or tabs divide cells), or `.parquet` (needs pyarrow: the extra `parquet`).
        name: The parameter's, for messages.
        whole_text: A `.txt`, or a file of any ending that is not named here, is one text.

    Returns:
        The rows; none for an empty file.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: Parquet without pyarrow.
        ValueError: No file, another ending, compressed, or not readable as a whole.
    """
    path = Path(fspath(path))
    ending = path.suffix.lower()
    is_text = ending == ".txt" or (whole_text and ending not in ENDINGS)
    data = _content(path, name, is_read=is_text or ending in ENDINGS)
    try:
        if is_text:
            return [Row(str(path), decode(data))] if whole_text else list(_lines(path, data))
        return list(_READERS[ending](path, data))
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error


def _content(path: Path, name: str, *, is_read: bool) -> bytes:
    shown = f"{name}={str(path)!r}"
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # a text that is too long for a path, for example
        is_file = is_folder = is_read = False
    if is_folder:
        raise ValueError(f"{shown} is a directory; name a file in it")
    data = b""
    if is_file:
        with path.open("rb") as file:
            data = file.read(-1 if is_read else 8)
    if data.startswith(_COMPRESSED):
        raise ValueError(
            f"{shown} is compressed, or a document of an office program; unpack it, or save it as "
            "CSV"
        )
    if not is_read:
        raise ValueError(
            f"{shown} is taken as a path, which must end in {', '.join(ENDINGS[:-1])} or "
            f"{ENDINGS[-1]}; for a single text pass a list with one string"
        )
    if not is_file:
        raise FileNotFoundError(f"{shown}: there is no such file")
    return data


def _lines(path: Path, data: bytes) -> Iterator[Row]:
    for number, line in numbered_lines(data):
        if isinstance(line, ValueError) or line.strip():
            yield Row(f"{path}, line {number}", line)


# ------------------------------------------------------------------ JSON


def _json_lines(path: Path, data: bytes) -> Iterator[Row]:
    for place, line in _lines(path, data):
        yield Row(place, line if isinstance(line, ValueError) else _json_line(line))


def _json_line(line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        hint = ""
        if line.rstrip().endswith(("},", "],")):
            hint = "; a line of JSON Lines ends without a comma"
        elif line.lstrip().startswith("["):
            hint = "; a file that is one JSON array ends in .json"
        return ValueError(f"not JSON ({_problem(error)}){hint}")


def _json(path: Path, data: bytes) -> Iterator[Row]:
    text = decode(data)
    try:
        content = json.loads(text, object_pairs_hook=_object) if text.strip() else []
    except (ValueError, RecursionError) as error:
        first = next((line for line in text.split("\n") if line.strip()), "")
        if not isinstance(_json_line(first), ValueError):  # many call JSON Lines .json
            yield from _json_lines(path, data)
            return
        line = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "line 1"
        raise ValueError(f"{line}: not JSON ({_problem(error)})") from error
    if isinstance(content, dict):
        content = columns_as_rows(content)
    if not isinstance(content, list):
        raise ValueError("line 1: must be an array of rows, or an object of columns (arrays)")
    for number, value in enumerate(content, start=1):
        yield Row(f"{path}, row {number}", value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, in which no key is there twice: of two, Python would silently take the last."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return made


def _problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    return str(error)


def columns_as_rows(columns: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Rows of a table that is given by its columns.

    Args:
        columns: Names and lists of values, or of objects with the same keys (as pandas writes it).

    Returns:
        The rows; None if it is no such table.

    Raises:
        ValueError: The columns differ in length.
    """
    if columns and all(isinstance(values, dict) for values in columns.values()):
        keys = {tuple(values) for values in columns.values()}
        columns = {name: list(v.values()) for name, v in columns.items()} if len(keys) == 1 else {}
    if not columns or not all(isinstance(values, (list, tuple)) for values in columns.values()):
        return None
    lengths = {str(name): len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns differ in length: {lengths}")
    names = [str(name) for name in columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


# ------------------------------------------------------------------ tables


def _csv(path: Path, data: bytes) -> Iterator[Row]:
    text = decode(data)
    header = next((line for line in text.split("\n") if line.strip()), "")
    dividers = [divider for divider in (",", ";", "\t") if divider in header]
    divider = "\t" if path.suffix.lower() == ".tsv" else (dividers or [","])[0]
    if header.startswith("sep=") and len(header) == 5:  # which Excel writes and reads
        text, divider = text.replace(header, "", 1), header[4]
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield from _table(path, csv.reader(io.StringIO(text), delimiter=divider, strict=True))
    finally:
        csv.field_size_limit(before)


def _table(path: Path, reader: Any) -> Iterator[Row]:
    names: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            place, start = f"{path}, line {start}", reader.line_num + 1
            if names is None and cells:
                names = [cell.strip() for cell in cells]
                if len(set(filter(None, names))) < len([name for name in names if name]):
                    raise ValueError(f"line 1: two columns have the same name: {names}")
            elif names is not None and any(cell.strip() for cell in cells):
                yield Row(place, _table_row(names, cells))
    except csv.Error as error:
        raise ValueError(f"line {start}: not CSV ({error})") from error


def _table_row(names: list[str], cells: list[str]) -> Any:
    if len(cells) != len(names):
        return ValueError(f"has {len(cells)} cells, but the first line names {len(names)} columns")
    # A column without a name is pandas' index.
    return {name: cell for name, cell in zip(names, cells, strict=True) if name}


def _parquet(path: Path, data: bytes) -> Iterator[Row]:
    pyarrow, parquet = import_pyarrow()
    try:
        # Of a path, pyarrow would make columns: of a directory "a=1", one called a.
        rows = parquet.read_table(io.BytesIO(data)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"not a whole Parquet file: {error}") from error
    for number, row in enumerate(rows, start=1):
        yield Row(f"{path}, row {number}", row)


def import_pyarrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`; `ImportError` that names the extra."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow: pip install 'llm-gym[parquet]', or use a .jsonl file"
        ) from error


_READERS = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
