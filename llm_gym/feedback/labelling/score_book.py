"""What people said about single answers: one SQLite file, so that nobody is asked twice.

Durable like the store of comparisons: write-ahead log, `synchronous=FULL`; an answer is on the disk
when `answer` returns.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from llm_gym.feedback.labelling.questions import ConflictError, UnknownQuestionError

__all__ = ["Asked", "ScoreBook", "Tally"]

APPLICATION_ID = 0x6C676D73  # "lgms"
VERSION = 1

SCHEMA = """
CREATE TABLE question (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL UNIQUE,
    prompt TEXT NOT NULL,
    completion TEXT NOT NULL,
    baseline TEXT
);
CREATE TABLE answer (
    question_id INTEGER PRIMARY KEY REFERENCES question(id),
    value REAL CHECK (value BETWEEN 0 AND 100),
    rater TEXT NOT NULL,
    seconds REAL NOT NULL,
    created_at TEXT NOT NULL,
    request TEXT NOT NULL UNIQUE
);
"""


class Asked(NamedTuple):
    """A question in the book.

    Attributes:
        id: Its number.
        prompt: What the model was asked.
        completion: What it wrote.
        baseline: The answer to compare it with; None where a score is asked for.
        answered: Whether a person has dealt with it.
        value: What the person said, 0 to 100; None if the person declined, or nobody has answered.
    """

    id: int
    prompt: str
    completion: str
    baseline: str | None
    answered: bool
    value: float | None


class Tally(NamedTuple):
    """What is in the book.

    Attributes:
        answers: Questions that people dealt with, declined ones among them.
        mean: Mean of the values; None if there are none.
        seconds: Time that people took.
    """

    answers: int
    mean: float | None
    seconds: float


class ScoreBook:
    """Questions and people's answers to them. Safe to use from several threads and processes.

    Args:
        path: The file; made, with its directory, if it is not there.
        timeout: Seconds to wait while another process is writing.

    Raises:
        ValueError: The file is something else, or of a newer version.
        OSError: It cannot be read or written. So for every method.
    """

    def __init__(self, path: str | Path, *, timeout: float = 30.0) -> None:
        self.path = Path(path).absolute()
        self._lock = threading.RLock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._translated():
            self._connection = sqlite3.connect(
                self.path, timeout=timeout, isolation_level=None, check_same_thread=False
            )
        try:
            self._set_up()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Closes the file. May be called twice."""
        with self._lock:
            self._connection.close()

    def ask(self, prompt: str, completion: str, baseline: str | None = None) -> Asked:
        """Notes a question, or finds the same one.

        Args:
            prompt: What the model was asked.
            completion: What it wrote.
            baseline: The answer to compare it with; None asks for a score.

        Returns:
            The question, with its answer if there is one.
        """
        digest = _digest(prompt, completion, baseline)
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO question (digest, prompt, completion, baseline) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (digest) DO NOTHING",
                (digest, _storable(prompt), _storable(completion), _storable(baseline)),
            )
            return _asked(connection, "digest = ?", digest)

    def question(self, question_id: int) -> Asked:
        """The question of that number; `UnknownQuestionError` if there is none."""
        with self._transaction() as connection:
            return _asked(connection, "id = ?", question_id)

    def answer(
        self, question_id: int, value: float | None, *, rater: str, seconds: float, key: str
    ) -> None:
        """Records what a person said; it is on the disk when this returns.

        Args:
            question_id: Question id of the question.
            value: 0 to 100; None if the person declined.
            rater: who.
            seconds: How long it took.
            key: Different for each reply; the same key again changes nothing.

        Raises:
            UnknownQuestionError: No such question.
            ConflictError: Somebody has answered it.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        with self._transaction() as connection:
            asked = _asked(connection, "id = ?", question_id)
            if asked.answered:
                known = "SELECT 1 FROM answer WHERE question_id = ? AND request = ?"
                if connection.execute(known, (question_id, key)).fetchone():
                    return
                raise ConflictError(f"question {question_id} has been answered by somebody else")
            connection.execute(
                "INSERT INTO answer VALUES (?, ?, ?, ?, ?, ?)",
                (question_id, value, rater, seconds, now, key),
            )

    def tally(self) -> Tally:
        """How many answers there are, their mean, and the time they took."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT count(*), avg(value), total(seconds) FROM answer"
            ).fetchone()
            return Tally(*row)

    def _set_up(self) -> None:
        with self._transaction() as connection:
            found = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not tables and not found:
                for statement in filter(str.strip, SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            elif found != APPLICATION_ID:
                raise ValueError(f"{self.path} is a file of another program; choose another name")
            elif version != VERSION:
                raise ValueError(
                    f"{self.path} has version {version}, this llm_gym knows {VERSION}; upgrade it"
                )
        with self._translated():
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA fullfsync = ON")
            self._connection.execute("PRAGMA journal_mode = WAL")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error) or "malformed" in str(error):
                raise ValueError(
                    f"{self.path} is damaged or no file of ours ({error}); choose another name"
                ) from error
            raise OSError(
                f"cannot use {self.path}: {error}; nothing was written, try again"
            ) from error


def _asked(connection: sqlite3.Connection, where: str, value: str | int) -> Asked:
    row = connection.execute(
        "SELECT id, prompt, completion, baseline, question_id IS NOT NULL, value "  # noqa: S608
        f"FROM question LEFT JOIN answer ON question_id = id WHERE {where}",
        (value,),
    ).fetchone()
    if row is None:
        raise UnknownQuestionError(f"there is no question {value}")
    number, prompt, completion, baseline, answered, given = row
    return Asked(number, prompt, completion, baseline, bool(answered), given)


def _digest(prompt: str, completion: str, baseline: str | None) -> str:
    digest = hashlib.sha256(b"score" if baseline is None else b"comparison")
    for text in (prompt, completion, baseline or ""):
        raw = text.encode("utf-8", errors="surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def _storable(text: str | None) -> str | None:
    """Half a surrogate pair cannot be stored as UTF-8; the digest still tells such texts apart."""
    return None if text is None else text.encode("utf-8", errors="replace").decode()
