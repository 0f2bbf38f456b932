"""The store's tables, and reading and writing their rows inside a caller's transaction."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from sqlite3 import Connection
from typing import Any

from llm_gym.feedback.preferences.database import Schema
from llm_gym.feedback.preferences.records import Choice, Comparison, Progress, Vote, rater_name

SCHEMA = Schema(
    kind="store",
    title="preference store",
    application_id=0x6C676D70,  # "lgmp"
    version=1,
    advice=", or import it if it holds preferences",
    tables="""
CREATE TABLE comparison (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pair TEXT NOT NULL UNIQUE,
    prompt TEXT NOT NULL,
    first TEXT NOT NULL,
    second TEXT NOT NULL,
    columns TEXT NOT NULL
);
CREATE TABLE vote (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    comparison_id INTEGER NOT NULL REFERENCES comparison(id),
    rater TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('first', 'second', 'tie', 'skip')),
    seconds REAL NOT NULL CHECK (seconds >= 0),
    shown_first INTEGER NOT NULL CHECK (shown_first IN (0, 1)),
    created_at TEXT NOT NULL,
    request TEXT UNIQUE,
    undone_at TEXT
);
CREATE UNIQUE INDEX standing_vote ON vote (comparison_id, rater) WHERE undone_at IS NULL;
CREATE INDEX rater_vote ON vote (rater, id) WHERE undone_at IS NULL;
CREATE TABLE lease (
    comparison_id INTEGER NOT NULL REFERENCES comparison(id),
    rater TEXT NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (comparison_id, rater)
);
""",
)

_COMPARISONS = "SELECT prompt, first, second, columns, id FROM comparison"
_VOTES = "SELECT comparison_id, rater, choice, seconds, shown_first, created_at, id FROM vote"

# Older versions stored a rater's name as it was typed, and one person types it in several ways: a
# rater is whoever has one of the `_spellings`, a JSON list.
_IS_RATER = "rater IN (SELECT value FROM json_each(?))"
_GIVE_BACK = "DELETE FROM lease WHERE rater IN (SELECT value FROM json_each(?))"

# 1 for comparisons of which one more vote is wanted: a share of all, evenly spread.
_SHARED = "(CAST(c.id * :overlap AS INTEGER) > CAST((c.id - 1) * :overlap AS INTEGER))"

# What the rater already has on the table comes first, then what has the fewest votes; the second
# vote on a shared comparison counts as a first one, so that agreement can be measured early. Others
# who have a comparison on the table count as if they had voted.
_NEXT = f"""
SELECT prompt, first, second, columns, id FROM (
    SELECT c.*, {_SHARED} AS shared,
        (SELECT count(*) FROM vote v WHERE v.comparison_id = c.id AND v.undone_at IS NULL
            AND v.choice != 'skip')
        + (SELECT count(*) FROM lease l WHERE l.comparison_id = c.id
            AND l.rater NOT IN (SELECT value FROM json_each(:spellings)))
        AS votes,
        EXISTS (SELECT 1 FROM lease l WHERE l.comparison_id = c.id
            AND l.rater IN (SELECT value FROM json_each(:spellings))) AS own
    FROM comparison c
    WHERE NOT EXISTS (SELECT 1 FROM vote v WHERE v.comparison_id = c.id
        AND v.rater IN (SELECT value FROM json_each(:spellings)) AND v.undone_at IS NULL)
)
WHERE own OR votes < :limit + shared ORDER BY own DESC, max(votes - shared, 0), id LIMIT 1
"""  # noqa: S608

# Votes still wanted; where :spellings is not NULL, comparisons that this rater has not judged yet.
_WANTED = f"""
SELECT total(CASE WHEN :spellings IS NULL THEN max(0, :limit + shared - votes)
    ELSE votes < :limit + shared AND NOT judged END)
FROM (
    SELECT {_SHARED} AS shared,
        (SELECT count(*) FROM vote v WHERE v.comparison_id = c.id AND v.undone_at IS NULL
            AND v.choice != 'skip') AS votes,
        EXISTS (SELECT 1 FROM vote v WHERE v.comparison_id = c.id AND v.undone_at IS NULL
            AND v.rater IN (SELECT value FROM json_each(:spellings))) AS judged
    FROM comparison c
)
"""  # noqa: S608


def add_comparison(connection: Connection, new: Comparison) -> int:
    """Adds a comparison, or finds the same pair; returns its number."""
    framed = json.dumps([new.prompt, *sorted(new.answers)]).encode()
    pair = hashlib.sha256(framed).hexdigest()
    row = connection.execute("SELECT id FROM comparison WHERE pair = ?", (pair,)).fetchone()
    if row is not None:
        return int(row[0])
    columns = json.dumps(dict(new.columns), ensure_ascii=False)
    cursor = connection.execute(
        "INSERT INTO comparison (pair, prompt, first, second, columns) VALUES (?, ?, ?, ?, ?)",
        (pair, new.prompt, *new.answers, columns),
    )
    return int(cursor.lastrowid or 0)


def comparison(connection: Connection, comparison_id: int) -> Comparison:
    """The comparison of that number; ValueError if there is none."""
    row = connection.execute(f"{_COMPARISONS} WHERE id = ?", (comparison_id,)).fetchone()
    if row is None:
        raise ValueError(f"comparison_id={comparison_id!r}: there is no such comparison")
    return _comparison(row)


def comparisons(connection: Connection) -> list[Comparison]:
    """All comparisons, in the order they came in."""
    return [_comparison(row) for row in connection.execute(f"{_COMPARISONS} ORDER BY id")]


def next_comparison(
    connection: Connection, rater: str, votes_per_comparison: int, overlap: float, now: float
) -> Comparison | None:
    """What the rater should judge next (`PreferenceStore.next_for`); expired leases are removed."""
    connection.execute("DELETE FROM lease WHERE expires_at <= ?", (now,))
    wanted = {"limit": votes_per_comparison, "overlap": overlap}
    question = {"spellings": _spellings(connection, rater), **wanted}
    row = connection.execute(_NEXT, question).fetchone()
    return None if row is None else _comparison(row)


def lease(connection: Connection, comparison_id: int, rater: str, expires_at: float) -> None:
    """Keeps one comparison for a rater; any other that was kept goes back."""
    connection.execute(_GIVE_BACK, (_spellings(connection, rater),))
    connection.execute("INSERT INTO lease VALUES (?, ?, ?)", (comparison_id, rater, expires_at))


def votes(
    connection: Connection, *, undone: bool = False, last_vote: int | None = None
) -> list[Vote]:
    """Votes that stand, or those that were taken back, in the order they came in.

    Args:
        connection: Inside a transaction.
        undone: Which of the two.
        last_vote: Number of the last one that counts; None counts all.
    """
    which = "IS NOT NULL" if undone else "IS NULL"
    query = f"{_VOTES} WHERE undone_at {which} AND id <= coalesce(?, id) ORDER BY id"
    return [_vote(row) for row in connection.execute(query, (last_vote,))]


def requested_vote(connection: Connection, key: str, vote: Vote) -> Vote | None:
    """The vote that an earlier request with this key recorded; None if there was none.

    Raises:
        ValueError: The key belongs to another vote, or to one that was taken back since.
    """
    row = connection.execute(f"{_VOTES} WHERE request = ?", (key,)).fetchone()
    if row is None:
        return None
    recorded = _vote(row)
    same = ("comparison_id", "rater", "choice")
    if any(getattr(recorded, name) != getattr(vote, name) for name in same):
        raise ValueError(f"key={key!r} belongs to another vote; use a new key for each vote")
    stands = "SELECT 1 FROM vote WHERE id = ? AND undone_at IS NULL"
    if connection.execute(stands, (recorded.id,)).fetchone() is None:
        raise ValueError(
            f"key={key!r} belongs to a vote that was taken back; use a new key for a new vote"
        )
    return recorded


def add_vote(connection: Connection, vote: Vote, key: str | None = None) -> Vote:
    """Records a vote and gives the comparison back.

    Raises:
        ValueError: No such comparison, or the rater has voted on it.
    """
    number, rater = vote.comparison_id, vote.rater
    earlier = _standing(connection, number, rater)
    if earlier is not None:
        raise ValueError(
            f"rater {rater!r} has already voted {earlier.choice.value!r} on comparison {number}; "
            "undo that first"
        )
    comparison(connection, number)
    created_at = vote.created_at or _now()
    cursor = connection.execute(
        "INSERT INTO vote (comparison_id, rater, choice, seconds, shown_first, created_at, request)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            number,
            rater,
            vote.choice.value,
            vote.seconds,
            vote.shown_first,
            created_at,
            key,
        ),
    )
    connection.execute(
        f"{_GIVE_BACK} AND comparison_id = ?", (_spellings(connection, rater), number)
    )
    return replace(vote, created_at=created_at, id=cursor.lastrowid)


def import_vote(connection: Connection, seen: Comparison, vote: Vote) -> bool:
    """Records a vote from a file unless it is there already; tells whether it was new.

    Args:
        connection: Inside a transaction.
        seen: The pair in the order the vote speaks of.
        vote: Its `comparison_id` is ignored.

    Raises:
        ValueError: The rater has voted otherwise on the pair.
    """
    number = add_comparison(connection, seen)
    vote = replace(vote, comparison_id=number)
    if comparison(connection, number).answers != seen.answers:  # it is stored the other way round
        turned = {Choice.FIRST: Choice.SECOND, Choice.SECOND: Choice.FIRST}
        choice = turned.get(vote.choice, vote.choice)
        vote = replace(vote, choice=choice, shown_first=1 - vote.shown_first)
    earlier = _standing(connection, number, vote.rater)
    if earlier is None:
        add_vote(connection, vote)
        return True
    if earlier.choice is not vote.choice:
        raise ValueError(
            f"the file contradicts the store: rater {vote.rater!r} voted "
            f"{earlier.choice.value!r} on comparison {number}, the file says "
            f"{vote.choice.value!r}; nothing was imported; import it under "
            "another rater, or into another store"
        )
    return False


def take_back_last(connection: Connection, rater: str) -> Vote | None:
    """Marks the rater's last standing vote as taken back and returns it; None if there is none."""
    row = connection.execute(
        f"{_VOTES} WHERE {_IS_RATER} AND undone_at IS NULL ORDER BY id DESC LIMIT 1",
        (_spellings(connection, rater),),
    ).fetchone()
    if row is None:
        return None
    vote = _vote(row)
    connection.execute("UPDATE vote SET undone_at = ? WHERE id = ?", (_now(), vote.id))
    return vote


def progress(
    connection: Connection, rater: str | None, votes_per_comparison: int, overlap: float
) -> Progress:
    """Counts (`PreferenceStore.progress`)."""
    spellings = None if rater is None else _spellings(connection, rater)
    standing = "FROM vote WHERE undone_at IS NULL"
    named: tuple[str, ...] = ()
    if spellings is not None:
        standing, named = f"{standing} AND {_IS_RATER}", (spellings,)
    (total,) = connection.execute("SELECT count(*) FROM comparison").fetchone()
    all_votes, ties, skips, seconds = connection.execute(
        "SELECT count(*), total(choice = 'tie'), total(choice = 'skip'), total(seconds) "
        f"{standing}",
        named,
    ).fetchone()
    (voted,) = connection.execute(
        f"SELECT count(DISTINCT comparison_id) {standing} AND choice != 'skip'", named
    ).fetchone()
    by_rater: Counter[str] = Counter()
    for name, count in connection.execute(
        f"SELECT rater, total(choice != 'skip') {standing} GROUP BY rater", named
    ):
        by_rater[rater_name(name)] += int(count)
    return Progress(
        comparisons=total,
        voted=voted,
        votes=all_votes - int(skips),
        ties=int(ties),
        skips=int(skips),
        remaining=_remaining(connection, spellings, votes_per_comparison, overlap),
        by_rater=dict(sorted(by_rater.items())),
        seconds=seconds,
    )


def _remaining(
    connection: Connection, spellings: str | None, votes_per_comparison: int, overlap: float
) -> int:
    wanted = {"limit": votes_per_comparison, "overlap": overlap}
    return int(connection.execute(_WANTED, {"spellings": spellings, **wanted}).fetchone()[0])


def _spellings(connection: Connection, rater: str) -> str:
    """All ways in which a rater's name is stored, and the name as it is stored today: JSON."""
    names = "SELECT rater FROM vote WHERE undone_at IS NULL UNION SELECT rater FROM lease"
    stored = (name for (name,) in connection.execute(names))
    return json.dumps([rater, *(name for name in stored if rater_name(name) == rater)])


def _standing(connection: Connection, comparison_id: int, rater: str) -> Vote | None:
    row = connection.execute(
        f"{_VOTES} WHERE comparison_id = ? AND {_IS_RATER} AND undone_at IS NULL "
        "ORDER BY id LIMIT 1",
        (comparison_id, _spellings(connection, rater)),
    ).fetchone()
    return None if row is None else _vote(row)


def _comparison(row: tuple[Any, ...]) -> Comparison:
    prompt, first, second, columns, number = row
    with _read("comparison", number):
        return Comparison(prompt, (first, second), json.loads(columns), number)


def _vote(row: tuple[Any, ...]) -> Vote:
    with _read("vote", row[-1]):
        return Vote(*row)


@contextmanager
def _read(what: str, number: int) -> Iterator[None]:
    """Errors of a row that no store would have written, as such."""
    try:
        yield
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{what} {number} of the store is damaged: {error}") from error


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
