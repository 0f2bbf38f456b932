"""One SQLite file, opened so that what was acknowledged is on the disk.

Write-ahead log with `synchronous=FULL`: a commit returns after the log is flushed
(https://www.sqlite.org/pragma.html#pragma_synchronous), so neither `kill -9` nor a power cut takes
back a commit. Every write begins with `BEGIN IMMEDIATE`: a transaction that first reads and then
writes cannot be overtaken in between.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

Objects = dict[tuple[str, str], tuple[str, str]]
"""Of a file's schema: table and SQL, without superfluous space, by kind and name."""


class Schema(NamedTuple):
    """What a file holds.

    Attributes:
        kind: What such a file is called in messages.
        title: The same in full.
        application_id: Stands in the header of every file of the kind.
        version: The newest that this code knows, from 1.
        tables: SQL that makes them, statements with a semicolon behind each.
        advice: What else to do with a file that is no database than to choose another name.
    """

    kind: str
    title: str
    application_id: int
    version: int
    tables: str
    advice: str = ""


class StoreUnavailableError(OSError):
    """The store could not be read or written; what was to be written was not. Try again."""

    errno = errno.EIO


class StoreBusyError(StoreUnavailableError):
    """Another process has kept the store locked for longer than the time-out."""


class StoreFullError(StoreUnavailableError):
    """The disk is full."""

    errno = errno.ENOSPC


class Database:
    """A connection to the file, shared by the threads of one process one at a time.

    SQLite lets one writer in at a time anyway, and no read here takes long; so a lock costs nothing
    and no thread can leave a connection behind.

    Args:
        path: The file; made, with its directory, if it is not there.
        schema: What it holds.
        timeout: Seconds to wait for other processes.

    Raises:
        ValueError: The file is not ours, damaged, of a newer version or with another schema; or the
            file system cannot hold a write-ahead log.
        StoreUnavailableError: Locked, full, or no permission.
    """

    def __init__(self, path: str | Path, schema: Schema, timeout: float) -> None:
        self.path = Path(path).absolute()
        self.schema = schema
        self._name = f"the {schema.kind} {self.path}"  # in messages
        self.timeout = timeout
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._closed = False
        if self.path.exists() and not self.path.is_file():  # to open a pipe would wait for ever
            what = "a directory" if self.path.is_dir() else "no regular file"
            raise ValueError(f"{self.path} is {what}; name a file for the {schema.kind}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailableError(f"cannot make {self._name}: {error}") from error
        with self._translated():
            self._connection = sqlite3.connect(
                self.path, timeout=timeout, isolation_level=None, check_same_thread=False
            )
        try:
            with self._translated():
                self._set_up()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Closes the file; the last one to do so folds the log into it. May be called twice."""
        with self._lock:
            if not self._closed and self._process == os.getpid():
                self._connection.close()
            self._closed = True

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yields the connection inside a write transaction.

        Everything or nothing is written, and durable when the block has ended.

        Yields:
            The connection.

        Raises:
            StoreUnavailableError: Locked, full or failing; nothing was written.
        """
        with self._usable(), self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite may have rolled back by itself
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Yields the connection for several SELECTs that see the same moment of the file."""
        with self._usable(), self._translated():
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def _usable(self) -> Iterator[None]:
        # Not inherited by a forked child: two processes on one connection damage the file
        # (https://www.sqlite.org/howtocorrupt.html, 2.6).
        if self._process != os.getpid():
            raise RuntimeError(
                f"{self._name} was opened by another process; open it again in this one"
            )
        with self._lock:
            if self._closed:
                raise ValueError(f"{self._name} is closed; open it again")
            yield

    def _set_up(self) -> None:
        connection = self._connection
        # A file from somewhere else may bring triggers, views and expressions that call functions:
        # they get the harmless ones only, and before anything is written the schema is compared.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        # On macOS fsync leaves the data in the drive's cache; elsewhere these change nothing.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        if self._is_new():
            self._create()
        version = self._pragma("user_version")
        if self._pragma("application_id") != self.schema.application_id:
            raise ValueError(f"{self.path} is an SQLite file of another program; choose another")
        if version > self.schema.version:
            raise ValueError(
                f"{self.path} has schema version {version}, newer than the "
                f"{self.schema.version} that this llm_gym knows; upgrade llm_gym"
            )
        if version < 1:
            raise self._damaged(f"its schema version is {version}")
        difference = _difference(_objects(connection), _expected(self.schema.tables))
        if difference is not None:
            raise ValueError(
                f"{self.path} is no {self.schema.title} as llm_gym makes it: {difference}; nothing "
                "of it was run; put back a copy, or copy its tables into a new one"
            )
        self._use_write_ahead_log()
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise self._damaged(problem)

    def _is_new(self) -> bool:
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return not tables and not self._pragma("application_id")

    def _create(self) -> None:
        """Makes the tables in one transaction of the rollback journal: all of them, or a new file.

        Several processes may be here at once; the first does it.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            if self._is_new():
                _make(self._connection, self.schema.tables)
                self._connection.execute(f"PRAGMA user_version = {self.schema.version}")
                self._connection.execute(f"PRAGMA application_id = {self.schema.application_id}")
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _use_write_ahead_log(self) -> None:
        # SQLite does not wait for a lock here when waiting might deadlock, so we do.
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                mode = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        if mode != "wal":
            raise ValueError(
                f"{self.path} lies on a file system that cannot hold SQLite's write-ahead log "
                f"(mode {mode!r}); put it on a local disk"
            )

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _begins_as_sqlite(self) -> bool:
        # Asked only after SQLite refused the file: before, its first page may still be in the
        # journal of a process that is creating it, or was killed while doing so.
        with open(self.path, "rb") as file:
            return file.read(16) == b"SQLite format 3\0"

    def _damaged(self, problem: str) -> ValueError:
        return ValueError(
            f"{self.path} is damaged or only half there ({problem}); put back a copy, or save what "
            f"is left with the sqlite3 program: sqlite3 {self.path.name} .recover"
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors as ours. Told apart by their text: Python 3.10 has no error codes."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            text = str(error)
            if "locked" in text:
                raise StoreBusyError(
                    f"{self._name} is locked by another process, for more than "
                    f"{self.timeout:g} s; nothing was written; close the other or try again"
                ) from error
            if "full" in text:
                raise StoreFullError(
                    f"no room left on the disk of {self._name}; nothing was written and "
                    "nothing is lost; make room and try again"
                ) from error
            if "not a database" in text and not self._begins_as_sqlite():
                raise ValueError(
                    f"{self.path} is not a {self.schema.title} (no SQLite file); choose another "
                    f"name{self.schema.advice}"
                ) from error
            if any(sign in text for sign in ("malformed", "not a database", "decode to UTF-8")):
                raise self._damaged(text) from error
            raise StoreUnavailableError(
                f"cannot use {self._name}: {text}; nothing was written"
            ) from error


def _make(connection: sqlite3.Connection, tables: str) -> None:
    for statement in filter(str.strip, tables.split(";")):
        connection.execute(statement)


def _objects(connection: sqlite3.Connection) -> Objects:
    """Every table, index, trigger and view of a file, but for the statistics of `ANALYZE`."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return {
        (kind, name): (table, " ".join((sql or "").split()))
        for kind, name, table, sql in rows
        if not (kind == "table" and str(name).startswith("sqlite_stat"))
    }


def _expected(tables: str) -> Objects:
    with closing(sqlite3.connect(":memory:")) as connection:
        _make(connection, tables)
        return _objects(connection)


def _difference(found: Objects, expected: Objects) -> str | None:
    """What is not as it should be, the first of it; None if all is."""
    for kind, name in sorted(found.keys() - expected.keys(), key=repr):
        return f"it has the {kind} {name!r:.80}, which is not ours"
    for kind, name in sorted(expected.keys() - found.keys()):
        return f"the {kind} {name!r} is missing"
    for kind, name in sorted(expected):
        if found[kind, name] != expected[kind, name]:
            return f"the {kind} {name!r} has other columns or constraints"
    return None
