"""What people said about single answers: one SQLite file, so that nobody is asked twice.

Durable like the store of comparisons: an answer is on the disk when `answer` returns.
"""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from llm_gym.feedback.labelling.questions import ConflictError, UnknownQuestionError
from llm_gym.feedback.preferences.database import Database, Schema
from llm_gym.feedback.preferences.records import request_key, whole

SCHEMA = Schema(
    kind="book",
    title="score book",
    application_id=0x6C676D73,  # "lgms"
    version=1,
    tables="""
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
""",
)


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
        ValueError: The file is something else, damaged, or of a newer version.
        StoreUnavailableError: It cannot be read or written. So for every method.
    """

    def __init__(self, path: str | Path, *, timeout: float = 30.0) -> None:
        self._database = Database(path, SCHEMA, timeout)

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    def close(self) -> None:
        """Closes the file. May be called twice; using the book afterwards is a ValueError."""
        self._database.close()

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
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO question (digest, prompt, completion, baseline) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (digest) DO NOTHING",
                (digest, _storable(prompt), _storable(completion), _storable(baseline)),
            )
            return _asked(connection, "digest = ?", digest)

    def question(self, question_id: int) -> Asked:
        """The question of that number; `UnknownQuestionError` if there is none."""
        question_id = whole("question_id", question_id)
        with self._database.transaction() as connection:
            return _asked(connection, "id = ?", question_id)

    def answer(
        self, question_id: int, value: float | None, *, rater: str, seconds: float, key: str
    ) -> None:
        """Records what a person said; it is on the disk when this returns.

        Args:
            question_id: Number of the question.
            value: 0 to 100; None if the person declined.
            rater: Who answers.
            seconds: How long it took.
            key: Different for each reply; the same key again changes nothing.

        Raises:
            UnknownQuestionError: No such question.
            ConflictError: Somebody has answered it.
        """
        question_id, key = whole("question_id", question_id), request_key(key)
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        with self._database.transaction() as connection:
            entry = _asked(connection, "id = ?", question_id)
            if entry.answered:
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
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT count(*), avg(value), total(seconds) FROM answer"
            ).fetchone()
            return Tally(*row)


def _asked(connection: sqlite3.Connection, where: str, value: str | int) -> Asked:
    row = connection.execute(
        "SELECT id, prompt, completion, baseline, question_id IS NOT NULL, value "  # noqa: S608
        f"FROM question LEFT JOIN answer ON question_id = id WHERE {where}",
        (value,),
    ).fetchone()
    if row is None:
        raise UnknownQuestionError(f"there is no question {value}")
    number, prompt, completion, baseline, answered, score = row
    return Asked(number, prompt, completion, baseline, bool(answered), score)


def _digest(prompt: str, completion: str, baseline: str | None) -> str:
    digest = hashlib.sha256(b"score" if baseline is None else b"comparison")
    for text in (prompt, completion, baseline or ""):
        raw = text.encode("utf-8", errors="surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def _storable(text: str | None) -> str | None:
    """Half a surrogate pair cannot be stored as UTF-8; the digest still tells such texts apart."""
    return None if text is None else text.encode("utf-8", errors="replace").decode()
