"""Stores and score books that somebody changed, as data: refused by name, and nothing runs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults.rows import Row
from llm_gym.feedback.labelling.score_book import ScoreBook
from llm_gym.feedback.preferences import Choice, Comparison, PreferenceStore, StoreUnavailableError

RUN = "SELECT writefile('{mark}', 'x'), load_extension('{mark}')"
"""What a hostile store would run; and `{rows}` is a table into which its triggers would write."""

SCHEMAS = {
    "a trigger on {rows} of votes": "CREATE TRIGGER evil AFTER INSERT ON {rows} "
    "BEGIN DELETE FROM {rows}; END",
    "a trigger that calls a function": "CREATE TRIGGER evil BEFORE INSERT ON {rows} "
    "BEGIN {run}; END",
    "a trigger that raises": "CREATE TRIGGER evil BEFORE INSERT ON {rows} "
    "BEGIN SELECT RAISE(IGNORE); END",
    "a view": "CREATE VIEW evil AS {run}",
    "a view in place of a table": "ALTER TABLE {rows} RENAME TO old; "
    "CREATE VIEW {rows} AS SELECT *, ({run}) FROM old",
    "an endless view": "CREATE VIEW evil AS WITH RECURSIVE t(x) AS "
    "(SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT max(x) FROM t",
    "a table more": "CREATE TABLE evil (x)",
    "a virtual table": "CREATE VIRTUAL TABLE evil USING fts5(x)",
    "an index of an expression": "CREATE INDEX evil ON {rows} (abs(id))",
    "an index more": "CREATE INDEX evil ON {rows} (id)",
    "a column more": "ALTER TABLE {rows} ADD COLUMN evil",
    "a computed column": "ALTER TABLE {rows} ADD COLUMN evil AS (abs(id))",
    "a default that is computed": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
    "substr(sql, 1, length(sql) - 1) || ', evil TEXT DEFAULT (hex(randomblob(9))))' "
    "WHERE name = '{rows}'",
    "another table": "DROP TABLE {rows}; CREATE TABLE {rows} (id)",
    "no table": "DROP TABLE {rows}",
    "schema version 0": "PRAGMA user_version = 0",
    "schema version 7": "PRAGMA user_version = 7",
    "no application": "PRAGMA application_id = 0",
}


def hostile_stores(directory: Path) -> list[Row]:
    """Opens each and uses it as a rater would.

    Args:
        directory: For the files.
    """
    kinds: list[tuple[str, str, Callable[[Path], None], Callable[[Path], None]]] = [
        ("stores of votes", "comparison", _make_store, _use_store),
        ("score books", "question", _make_book, _use_book),
    ]
    rows = []
    for title, table, make, use in kinds:
        failures, ran = [], []
        cases = {**SCHEMAS, **dict.fromkeys(_FILES, "")}
        for number, (what, sql) in enumerate(cases.items()):
            path = directory / f"{table}-{number}.db"
            mark = directory / f"{table}-{number}.ran"
            if what in _FILES:
                _FILES[what](path, make)
            else:
                make(path)
                run = RUN.format(mark=mark)
                with contextlib.closing(sqlite3.connect(path)) as connection:
                    connection.executescript(sql.format(rows=table, run=run))
            before = _dump(path)
            problem = _refusal(path, use)
            if problem is not None:
                failures.append(f"{what}: {problem}")
            if mark.exists() or _dump(path) != before:
                ran.append(f"{what}: something was run or written")
        rows.append(Row(f"{title} that somebody changed: refused in a sentence",
                        len(cases) - len(failures), len(cases), failures))  # fmt: skip
        rows.append(Row(f"{title} that somebody changed: nothing ran",
                        len(cases) - len(ran), len(cases), ran))  # fmt: skip
    return rows


def _refusal(path: Path, use: Callable[[Path], None]) -> str | None:
    try:
        use(path)
    except (ValueError, StoreUnavailableError) as error:
        names_it = path.name in str(error) and len(str(error)) < 400 and "\n" not in str(error)
        return None if names_it else f"said {error!r:.200}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "was used"


def _dump(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _make_store(path: Path) -> None:
    with PreferenceStore(path) as store:
        store.add([Comparison("prompt", ("one", "two"))])


def _use_store(path: Path) -> None:
    with PreferenceStore(path) as store:
        store.add([Comparison("another", ("one", "two"))])
        question = store.next_for("Eve")
        assert question is not None
        assert question.id is not None
        store.vote(question.id, "Eve", Choice.TIE, seconds=1, shown_first=0)


def _make_book(path: Path) -> None:
    book = ScoreBook(path)
    book.ask("prompt", "completion")
    book.close()


def _use_book(path: Path) -> None:
    with contextlib.closing(ScoreBook(path)) as book:
        book.answer(book.ask("prompt", "another").id, 1.0, rater="Eve", seconds=1.0, key="k" * 9)


def _overwritten(path: Path, make: Callable[[Path], None], offset: int, text: bytes) -> None:
    make(path)
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(text)


_FILES: dict[str, Callable[[Path, Callable[[Path], None]], None]] = {
    "a directory": lambda path, _: path.mkdir(),
    "a pipe": lambda path, _: os.mkfifo(path),
    "a text": lambda path, _: _written(path, b'{"prompt": "p"}\n' * 50),
    "a pickle": lambda path, _: _written(path, b"cos\nsystem\n(S'true'\ntR." + b" " * 200),
    "noise": lambda path, _: _written(path, bytes(range(256)) * 16),
    "a header and nothing": lambda path, _: _written(path, b"SQLite format 3\0" + b"\0" * 84),
    "noise behind the header": lambda path, make: _overwritten(path, make, 100, b"\xff" * 3900),
    "half of a file": lambda path, make: _halved(path, make),
}


def _written(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _halved(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
