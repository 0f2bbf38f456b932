"""The store when things go wrong: kill -9, full disk, locks, foreign and damaged files."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from llm_gym.feedback.preferences import (
    Comparison,
    PreferenceStore,
    StoreBusyError,
    StoreFullError,
    StoreUnavailableError,
    database,
)

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and limits")


def pairs(number: int) -> list[Comparison]:
    return [Comparison(f"prompt {n}", ("a" * 50, "b" * 50)) for n in range(number)]


def make_store(path: Path, number: int = 3) -> Path:
    with PreferenceStore(path) as store:
        store.add(pairs(number))
    return path


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# ------------------------------------------------------------------ several at once

VOTE_UNTIL_DONE = """
import sys, threading
from llm_gym.feedback.preferences import PreferenceStore
store = PreferenceStore(sys.argv[1])
lock = threading.Lock()
def work(rater):
    while (comparison := store.next_for(rater)) is not None:
        vote = store.vote(comparison.id, rater, "first", seconds=1, shown_first=0)
        with lock:
            print(vote.id, vote.comparison_id, rater, flush=True)
threads = [threading.Thread(target=work, args=(f"{sys.argv[2]}-{n}",)) for n in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_processes_and_threads_share_the_work_without_doing_any_of_it_twice(tmp_path):
    path = make_store(tmp_path / "votes.db", 60)
    workers = [start(VOTE_UNTIL_DONE, path, name) for name in ("ann", "bob", "cyd")]
    said = []
    for worker in workers:
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err
        said += out.split("\n")[:-1]
    with PreferenceStore(path) as store:
        votes = list(store.votes())
    assert sorted(vote.comparison_id for vote in votes) == list(range(1, 61))
    assert sorted(said) == sorted(f"{v.id} {v.comparison_id} {v.rater}" for v in votes)


def test_threads_that_vote_on_everything_lose_nothing(tmp_path):
    with PreferenceStore(make_store(tmp_path / "votes.db", 10)) as store:

        def work(rater: str) -> None:
            for number in range(1, 11):
                store.vote(number, rater, "tie", seconds=1, shown_first=0)

        threads = [threading.Thread(target=work, args=(f"r{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.progress().by_rater == {f"r{n}": 10 for n in range(8)}


def test_many_processes_may_create_the_store_at_once(tmp_path):
    code = (
        "import sys; from llm_gym.feedback.preferences import PreferenceStore, Comparison\n"
        "sys.stdin.readline()\n"
        "PreferenceStore(sys.argv[1]).add([Comparison(sys.argv[2], ('a', 'b'))])"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "votes.db"), name],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "abcd"
    ]
    for worker in workers:  # all are loaded and waiting when the first line goes out
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        _, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err
    with PreferenceStore(tmp_path / "votes.db") as store:
        assert sorted(comparison.prompt for comparison in store.comparisons()) == list("abcd")


@posix
def test_a_forked_child_is_told_to_open_its_own(tmp_path):
    with PreferenceStore(make_store(tmp_path / "votes.db")) as store:
        child = os.fork()
        if not child:
            try:
                store.progress()
            except RuntimeError as error:
                os._exit(0 if "open it again in this one" in str(error) else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.progress().comparisons == 3


# ------------------------------------------------------------------ kill -9


@posix
def test_no_acknowledged_vote_is_lost_to_kill_9(tmp_path):
    path = make_store(tmp_path / "votes.db", 2000)
    rng = random.Random(0)
    acknowledged: list[str] = []
    for life in range(4):
        worker = start(VOTE_UNTIL_DONE, path, f"life-{life}")
        for _ in range(rng.randrange(5, 60)):
            acknowledged.append(worker.stdout.readline().strip())
        worker.send_signal(signal.SIGKILL)
        acknowledged += worker.stdout.read().split("\n")[:-1]  # said before it died
        worker.wait()
        worker.stdout.close()
        worker.stderr.close()
        assert worker.returncode == -signal.SIGKILL
        with PreferenceStore(path) as store:
            recorded = {f"{v.id} {v.comparison_id} {v.rater}" for v in store.votes()}
            assert recorded >= set(acknowledged)
            # At most one vote a thread can have been written and not yet acknowledged.
            assert len(recorded) <= len(acknowledged) + 2 * (life + 1)
    assert len(acknowledged) > 30


@posix
def test_a_creation_cut_short_leaves_a_new_store(tmp_path):
    """Half a schema is no schema: the next to open the file makes it whole."""
    code = """
import os, signal, sys
from llm_gym.feedback.preferences import PreferenceStore, database, rows
last = "CREATE TABLE lease"
deadly_tables = rows.SCHEMA.tables.replace(last, "SELECT suicide(); " + last)
rows.SCHEMA = rows.SCHEMA._replace(tables=deadly_tables)
connect = database.sqlite3.connect
def deadly(*args, **kwargs):
    connection = connect(*args, **kwargs)
    connection.create_function("suicide", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
    connection.execute("PRAGMA cache_size = 1")  # so that pages go to the file before the commit
    return connection
database.sqlite3.connect = deadly
PreferenceStore(sys.argv[1])
"""
    path = tmp_path / "votes.db"
    worker = start(code, path)
    worker.communicate(timeout=120)
    assert worker.returncode == -signal.SIGKILL
    assert path.stat().st_size > 0  # half a schema is on the disk, and a journal to undo it
    with PreferenceStore(path) as store:
        assert store.add(pairs(1)) == [1]


# ------------------------------------------------------------------ full disk


def test_a_full_file_is_a_clear_error_and_nothing_is_lost(tmp_path):
    with PreferenceStore(make_store(tmp_path / "votes.db", 500)) as store:
        connection = store._database._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
        todo = iter(range(1, 501))

        def vote_on_all() -> None:
            for number in todo:
                store.vote(number, "ann", "first", seconds=1, shown_first=0, key=f"k{number}")

        with pytest.raises(StoreFullError, match=r"no room left .* nothing is lost; make room"):
            vote_on_all()
        done = next(todo) - 2  # the one after the one that was refused
        assert 0 < done < 499
        assert [vote.comparison_id for vote in store.votes()] == list(range(1, done + 1))
        connection.execute("PRAGMA max_page_count = 1000000")
        store.vote(done + 1, "ann", "first", seconds=1, shown_first=0, key=f"k{done + 1}")
        assert store.progress().votes == done + 1


@posix
def test_a_disk_that_takes_no_more_loses_nothing(tmp_path):
    """The log itself cannot grow: a limit on the size of files stands for a full disk."""
    code = """
import resource, sys
from llm_gym.feedback.preferences import PreferenceStore, StoreUnavailableError
store = PreferenceStore(sys.argv[1])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
number = 0
try:
    while True:
        store.vote(number + 1, "ann", "first", seconds=1, shown_first=0, key=f"k{number + 1}")
        number += 1
except StoreUnavailableError as error:
    print(number, str(error).replace("\\n", " "))
assert [v.comparison_id for v in store.votes()] == list(range(1, number + 1))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
store.vote(number + 1, "ann", "first", seconds=1, shown_first=0, key=f"k{number + 1}")
print(store.progress().votes)
"""
    path = make_store(tmp_path / "votes.db", 200)
    worker = start(code, path)
    out, err = worker.communicate(timeout=120)
    assert worker.returncode == 0, err
    refused, total = out.strip().split("\n")
    done = int(refused.split()[0])
    assert 0 < done < 200
    assert "nothing was written" in refused
    assert int(total) == done + 1
    with PreferenceStore(path) as store:
        assert store.progress().votes == done + 1


# ------------------------------------------------------------------ locks


def test_a_locked_store_is_a_clear_error_after_the_time_out(tmp_path):
    path = make_store(tmp_path / "votes.db")
    other = sqlite3.connect(path, isolation_level=None)
    with PreferenceStore(path, timeout=0.05) as store:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match=r"locked by another process, for more than 0.05"):
            store.vote(1, "ann", "first", seconds=1, shown_first=0)
        assert store.progress().votes == 0  # reading goes on
        other.execute("ROLLBACK")
        assert store.vote(1, "ann", "first", seconds=1, shown_first=0).id == 1
    other.close()


def test_a_store_that_another_program_keeps_for_itself_cannot_be_opened(tmp_path):
    path = make_store(tmp_path / "votes.db")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreBusyError, match="locked"):
        PreferenceStore(path, timeout=0.05)
    other.execute("COMMIT")
    other.close()
    PreferenceStore(path).close()


def test_a_negative_time_out_is_refused(tmp_path):
    with pytest.raises(ValueError, match="timeout must be from 0 to"):
        PreferenceStore(tmp_path / "votes.db", timeout=-1)


def test_a_place_that_cannot_be_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError, match="cannot make the store"):
        PreferenceStore(tmp_path / "file" / "votes.db")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_without_permission_is_a_clear_error(tmp_path):
    path = make_store(tmp_path / "votes.db")
    path.chmod(0)
    with pytest.raises(StoreUnavailableError, match="cannot use the store"):
        PreferenceStore(path)


def test_a_file_system_without_a_log_is_a_clear_error(tmp_path, monkeypatch):
    """Some network file systems: SQLite answers with another mode instead of raising."""

    class Networked(sqlite3.Connection):
        def execute(self, query, *parameters):
            return super().execute(
                "SELECT 'delete'" if "journal_mode" in query else query, *parameters
            )

    connect = sqlite3.connect
    monkeypatch.setattr(
        database.sqlite3, "connect", lambda *args, **kw: connect(*args, **kw, factory=Networked)
    )
    with pytest.raises(ValueError, match=r"cannot hold SQLite's write-ahead log \(mode 'delete'\)"):
        PreferenceStore(tmp_path / "votes.db")


# ------------------------------------------------------------------ files that are no store


@pytest.mark.parametrize(
    "content", [b'{"prompt": "p"}\n', b"SQLite format 2\0" + b"x" * 200, os.urandom(5000)]
)
def test_a_foreign_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "notes.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a preference store"):
        PreferenceStore(path)
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.jsonl"]


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "bookmarks.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE vote (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="SQLite file of another program"):
        PreferenceStore(path)
    assert path.read_bytes() == before


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a directory"):
        PreferenceStore(tmp_path)


def test_an_empty_file_becomes_a_store(tmp_path):
    path = tmp_path / "votes.db"
    path.touch()
    with PreferenceStore(path) as store:
        assert store.add(pairs(1)) == [1]


@pytest.mark.parametrize("left", [50, 100, 4096, 0.5, 0.9])
def test_half_a_file_is_refused(tmp_path, left):
    path = make_store(tmp_path / "votes.db", 500)
    content = path.read_bytes()
    kept = content[: left if left > 1 else int(len(content) * left)]
    path.write_bytes(kept)
    with pytest.raises(ValueError, match=r"damaged or only half there.*\.recover"):
        PreferenceStore(path)
    assert path.read_bytes() == kept


def test_a_page_of_rubbish_is_noticed(tmp_path):
    path = make_store(tmp_path / "votes.db", 500)
    content = bytearray(path.read_bytes())
    content[5 * 4096 : 6 * 4096] = bytes(range(256)) * 16
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or only half there"):
        PreferenceStore(path)


@pytest.mark.parametrize(
    ("version", "problem"), [(2, "newer than the 1.*upgrade llm_gym"), (0, "schema version is 0")]
)
def test_another_schema_version_is_refused(tmp_path, version, problem):
    path = make_store(tmp_path / "votes.db")
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version = {version}")
    other.close()
    with pytest.raises(ValueError, match=problem):
        PreferenceStore(path)


def test_the_file_says_what_it_is_and_flushes_every_commit(tmp_path):
    with PreferenceStore(make_store(tmp_path / "votes.db")) as store:
        pragma = store._database._pragma
        assert pragma("synchronous") == 2  # FULL
        assert store._database._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert pragma("application_id").to_bytes(4, "big") == b"lgmp"
        assert pragma("user_version") == 1


# ------------------------------------------------------------------ stores that somebody changed

RUNS = "SELECT ran()"  # of no function that SQLite has; a store that calls it fails, or says so
CHANGES = {
    "a trigger": f"CREATE TRIGGER evil AFTER INSERT ON vote BEGIN {RUNS}; END",
    "a trigger on a lease": f"CREATE TRIGGER evil BEFORE DELETE ON lease BEGIN {RUNS}; END",
    "a view": f"CREATE VIEW evil AS {RUNS}",
    "a view in the place of a table": f"DROP TABLE lease; CREATE VIEW lease AS {RUNS}",
    "a table": "CREATE TABLE evil (x)",
    "an index": "CREATE INDEX evil ON vote (seconds)",
    "an index of an expression": "CREATE INDEX evil ON vote (abs(seconds))",
    "a virtual table": "CREATE VIRTUAL TABLE evil USING fts5(x)",
    "a column": "ALTER TABLE vote ADD COLUMN evil",
    "a computed column": "ALTER TABLE vote ADD COLUMN evil AS (abs(seconds))",
    "a column less": "ALTER TABLE comparison DROP COLUMN columns",
    "another name": "ALTER TABLE vote RENAME COLUMN seconds TO minutes",
    "a table less": "DROP TABLE lease",
    "an index less": "DROP INDEX rater_vote",
    "a rule less": "DROP INDEX standing_vote",
    "no constraints": "DROP TABLE lease; CREATE TABLE lease (comparison_id, rater, expires_at)",
    "another default": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
    "replace(sql, 'undone_at TEXT', 'undone_at TEXT DEFAULT (abs(1))') WHERE name = 'vote'",
    "no check": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
    "replace(sql, 'CHECK (seconds >= 0)', '') WHERE name = 'vote'",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_store_with_another_schema_is_refused_by_name_and_left_alone(tmp_path, change):
    path = make_store(tmp_path / "votes.db")
    with closing(sqlite3.connect(path)) as other:
        other.executescript(CHANGES[change])
        other.commit()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"no preference store as llm_gym makes it: .*'\w+'"):
        PreferenceStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        *[("user_version", value) for value in (-1, 0, 2, 2**31 - 1)],
        *[("application_id", value) for value in (0, 7)],
    ],
)
def test_another_number_in_the_header_is_refused(tmp_path, pragma, value):
    path = make_store(tmp_path / "votes.db")
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA {pragma} = {value}")
    with pytest.raises(ValueError, match=r"schema version|another program"):
        PreferenceStore(path)


def test_a_store_with_statistics_of_its_indices_is_ours(tmp_path):
    path = make_store(tmp_path / "votes.db")
    with closing(sqlite3.connect(path)) as other:
        other.executescript("ANALYZE; VACUUM;")
    with PreferenceStore(path) as store:
        assert store.progress().comparisons == 3


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE comparison SET columns = '{'",
        "UPDATE comparison SET columns = '[1]'",
        f"UPDATE comparison SET columns = '{'[' * 100_000}'",
        "UPDATE comparison SET prompt = ''",
        "UPDATE comparison SET prompt = x'00ff'",
        "UPDATE comparison SET prompt = CAST(x'ff' AS TEXT)",
        "UPDATE comparison SET second = first",
    ],
)
def test_rows_that_no_store_would_hold_are_one_sentence(tmp_path, change):
    path = make_store(tmp_path / "votes.db")
    with closing(sqlite3.connect(path)) as other:
        other.execute(change)
        other.commit()
    with PreferenceStore(path) as store, pytest.raises(ValueError, match="damaged") as raised:
        list(store.comparisons())
    assert len(str(raised.value)) < 500


@posix
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path, make):
    make(tmp_path / "votes.db")
    with pytest.raises(ValueError, match="name a file for the store"):
        PreferenceStore(tmp_path / "votes.db")
