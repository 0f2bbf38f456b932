"""The one reader of data: from a path, or from what people hold in memory, to rows.

Prompts, pairs, texts, preferences, comparisons and ratings all come through here; what a row means
is said by `llm_gym.files.formats` and by the room whose records they become.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeVar

from llm_gym.files.containers import Row, columns_as_rows, file_rows
from llm_gym.files.ranges import check_choice, check_settings
from llm_gym.files.settings import setting

Record = TypeVar("Record")
Note = Callable[[str], None]
"""Takes a sentence on what was changed or left out in a row; each is said once, with its count."""


class DataWarning(UserWarning):
    """What was changed in, or left out of, what was read."""


class TooLongError(ValueError):
    """A row has more tokens than may be."""


BAD_ROWS = ("error", "skip")
TOO_LONG = ("error", "drop", "truncate")
_LISTED = 3  # bad rows that are listed by place and reason


@dataclass(frozen=True)
class RowConfig:
    """Settings of everything that reads rows.

    Raises:
        TypeError: A setting, one of a subclass included, has a value of another type.
        ValueError: A value is out of range.
    """

    bad_rows: str = setting("error", "what becomes of rows that cannot be read: error or skip")

    def __post_init__(self) -> None:
        check_settings(self)
        check_choice("bad_rows", self.bad_rows, BAD_ROWS)


@dataclass(frozen=True)
class LengthConfig(RowConfig):
    """Settings of everything that reads rows for a model that reads so many tokens."""

    too_long: str = setting(
        "error", "what becomes of rows that the model cannot read whole: error, drop or truncate"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("too_long", self.too_long, TOO_LONG)


def read_rows(source: Any, name: str, *, whole_text: bool = False) -> list[Row]:
    """Reads rows, wherever they are.

    Args:
        source: A path (see `llm_gym.files.containers.file_rows`); a sequence of texts, dicts or
            conversations; a `datasets.Dataset`; a table of pandas, polars or pyarrow; a dict of
            columns; or an array of texts.
        name: The parameter's, for messages.
        whole_text: As for `file_rows`.

    Returns:
        The rows; none for an empty source.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: Nothing that rows can be read from.
        ValueError: A file that cannot be read, or columns of different lengths.
    """
    if isinstance(source, (str, PathLike)):
        return file_rows(source, name, whole_text=whole_text)
    return [Row(f"{name}[{index}]", item) for index, item in enumerate(_items(source, name))]


def parse_rows(
    rows: Iterable[Row],
    parse: Callable[[Any, Note], Record | None],
    source: Any,
    name: str,
    *,
    bad_rows: str = "error",
) -> list[tuple[str, Record]]:
    """Makes records of rows, and says once what was left out.

    Args:
        rows: What `read_rows` returned.
        parse: Makes a record of a row's value, or None to leave the row out with a note; raises
            `TypeError` or `ValueError` for a bad row.
        source: Where the rows are from, for messages.
        name: The parameter's.
        bad_rows: "error", or "skip" to leave bad rows out: a warning counts them and lists the
            first.

    Returns:
        Place and record, at least one.

    Raises:
        TypeError, ValueError: A bad row, by its place; or there are none.
    """
    check_choice("bad_rows", bad_rows, BAD_ROWS)
    records: list[tuple[str, Record]] = []
    bad: list[str] = []
    notes: Counter[str] = Counter()
    total, is_path = 0, isinstance(source, (str, PathLike))
    for total, (place, value) in enumerate(rows, start=1):  # noqa: B007
        try:
            if isinstance(value, ValueError):
                raise value
            record = parse(value, lambda note: notes.update([note]))
        except (TypeError, ValueError) as error:
            problem = f"{place}: {error}"
            if bad_rows == "error":
                # Whoever wrote a file passed the right type: a path.
                is_type = isinstance(error, TypeError) and not is_path
                raise (TypeError if is_type else ValueError)(problem) from error
            bad.append(problem)
            continue
        if record is not None:
            records.append((place, record))
    shown = f"{name}={str(source)!r}" if is_path else name
    if bad:
        more = "" if len(bad) <= _LISTED else "; ..."
        listed = "; ".join(bad[:_LISTED])
        _warn(
            f"{shown}: {len(bad)} of {total} rows cannot be read and are left out ({listed}{more})"
        )
    for note, count in notes.items():
        _warn(f"{shown}: {note} ({count} of {total} rows)")
    if not records:
        of_them = f"; none of its {total} rows can be used" if total else ""
        raise ValueError(f"{shown} is empty: there is nothing to read{of_them}")
    return records


def has(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a value in a column; None, NaN and those of pandas' own are none."""
    value = row.get(name)
    kind = type(value).__name__
    if value is None or kind in ("NAType", "NaTType"):
        return False
    return not (kind.startswith("float") and value != value)


def json_columns(columns: Mapping[str, Any], note: Note) -> dict[str, Any]:
    """Columns as JSON can hold them, for a row that is to be written.

    Args:
        columns: Values by name. Dates and times become ISO 8601, arrays lists; what has no value
            (see `has`) is a missing column.
        note: Hears which columns are left out since JSON cannot hold them.
    """
    kept = {}
    for name in [name for name in columns if has(columns, name)]:
        value = as_list(columns[name])
        value = value.isoformat() if hasattr(value, "isoformat") else value
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
        except (TypeError, ValueError, RecursionError):
            note(f"the column {name!r} is left out, since JSON cannot hold what is in it")
            continue
        kept[name] = value
    return kept


def _warn(message: str) -> None:
    warnings.warn(message, DataWarning, stacklevel=4)


def short_enough(
    rows: Iterable[tuple[str, Record, int]],
    limit: int | None,
    because: str,
    name: str,
    *,
    too_long: str = "error",
    truncate: Callable[[Record, int], Record] = lambda row, limit: row,
) -> list[Record]:
    """Holds rows to a number of tokens, and says once what was left out or cut.

    Args:
        rows: Place, row and number of tokens of each.
        limit: The most tokens; None if there is no limit.
        because: Where the limit comes from, for messages: "max_prompt_tokens=40".
        name: What the rows are, for messages.
        too_long: What becomes of longer ones: "error", "drop" them, or "truncate" them.
        truncate: A row and the limit to the row cut to it.

    Returns:
        The rows that are short enough or were made so; at least one, if there is one.

    Raises:
        TooLongError: A row is too long, by its place; or all are.
    """
    check_choice("too_long", too_long, TOO_LONG)
    kept: list[Record] = []
    long: list[str] = []
    total = 0
    for total, (place, row, length) in enumerate(rows, start=1):  # noqa: B007
        if limit is None or length <= limit:
            kept.append(row)
            continue
        problem = f"{place} has {length} tokens, more than {because}"
        if too_long == "error":
            raise TooLongError(
                f"{problem}; shorten it, raise the limit, or pass too_long='drop' or 'truncate' "
                "(--too-long)"
            )
        long.append(problem)
        if too_long == "truncate":
            kept.append(truncate(row, limit))
    if long and not kept:
        raise TooLongError(f"all {total} {name} are too long ({long[0]})")
    if long:
        done = "left out" if too_long == "drop" else "cut"
        more = "" if len(long) <= _LISTED else "; ..."
        _warn(
            f"{len(long)} of {total} {name} are too long and are {done} "
            f"({'; '.join(long[:_LISTED])}{more})"
        )
    return kept


# ------------------------------------------------------------------ what people hold in memory


def _items(source: Any, name: str) -> Iterable[Any]:
    if isinstance(source, Mapping):
        return _rows_of_mapping(source, name)
    if isinstance(source, (bytes, bytearray)) or hasattr(source, "read"):
        raise TypeError(f"{name} is {_kind(source)}; pass a path instead")
    for method in ("to_dicts", "to_pylist"):  # polars; pyarrow
        if hasattr(source, method):
            return getattr(source, method)()
    if hasattr(source, "to_dict") and hasattr(source, "columns"):  # pandas
        return source.to_dict("records")
    if hasattr(source, "dtype"):
        return _values_of_array(source, name)
    if not hasattr(source, "__len__") and hasattr(source, "__iter__"):
        raise TypeError(
            f"{name} is {_kind(source)}, which can be read once only; pass list({name})"
        )
    if not hasattr(source, "__getitem__"):  # a set, for example
        reason = "has no order" if hasattr(source, "__len__") else "holds no rows"
        raise TypeError(
            f"{name} must be a path, a sequence of rows, a table or a dict of columns, got "
            f"{type(source).__name__}, which {reason}"
        )
    return source if hasattr(source, "__iter__") else map(source.__getitem__, range(len(source)))


def _rows_of_mapping(source: Mapping[Any, Any], name: str) -> list[dict[str, Any]]:
    if source and all(hasattr(part, "column_names") for part in source.values()):
        splits = [str(split) for split in source]
        raise TypeError(f"{name} has the splits {splits}; pass one of them, data[{splits[0]!r}]")
    columns = {column: as_list(values) for column, values in source.items()}
    try:
        rows = columns_as_rows(columns)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if rows is None:
        raise TypeError(
            f"{name} must be a sequence of rows or a dict of columns (lists), got "
            f"{type(source).__name__} with the keys {sorted(map(str, source))}; a single row goes "
            "into a list"
        )
    return rows


def _values_of_array(source: Any, name: str) -> list[Any]:
    values = as_list(source)
    if not isinstance(values, list) or getattr(source, "ndim", 1) != 1:
        raise TypeError(f"{name} is an array of shape {tuple(source.shape)}; pass a list of rows")
    if values and not any(isinstance(value, (str, Mapping, list)) for value in values):
        raise TypeError(f"{name} is {_kind(source)} of {source.dtype}, not of texts")
    return values


def as_list(values: Any) -> Any:
    """Python lists for the arrays of NumPy, pandas and pyarrow; anything else as it is."""
    for method in ("tolist", "to_pylist", "to_list"):
        if hasattr(values, method):
            return getattr(values, method)()
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        return list(values)
    return values


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
