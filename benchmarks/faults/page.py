"""The labelling page under attack: a server in a process of its own, raw requests, slow clients.

Every attack must be refused as it should be, and nothing may be left of it: no vote, no traceback
in the log, no memory, no open connection. Then stores that somebody changed: each must be refused
by name, and nothing of it may run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.attacks import FILES, LONG, TEXTS, TOKEN, WHO, Attack, bodies
from benchmarks.faults.rows import Row
from benchmarks.faults.stores import hostile_stores
from llm_gym.feedback.preferences import Comparison, PreferenceStore

PATIENCE = {True: 1.0, False: 20.0}  # seconds that the server waits, in the quick form and else
BIG_BODY = {True: 16_000_000, False: 400_000_000}
CONNECTIONS = {True: 150, False: 900}
MOST_GROWTH = 30_000_000  # bytes of the server's memory that a body may cost
ONE_SECOND = 1.0  # of the server's CPU, for two answers of a megabyte
_COMMAND = """
import sys
from llm_gym.feedback.labelling import limits
limits.PATIENCE = float(sys.argv[1])
from llm_gym.cli import main
main(["label", sys.argv[2], "--no-browser", "--rater", "Eve", "--port", "0"])
"""


def measure(output: Path, quick: bool) -> list[Row]:
    """Attacks a page, then opens stores that somebody changed.

    Args:
        output: Directory for stores and logs.
        quick: A patience of one second, and fewer bytes and connections.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as directory:
        page = attacked(Path(directory), quick)
        return [page, *hostile_stores(Path(directory))]


def attacked(directory: Path, quick: bool) -> Row:
    """All attacks on one server.

    Args:
        directory: For the store and the log.
        quick: See `measure`.
    """
    failures = []
    pairs = [("one", "two"), *((f"A{text}", f"B{text}") for text in TEXTS.values())]
    with Server(directory, PATIENCE[quick], pairs) as server:
        vote = server.vote_body()
        requests = [*WHO, *FILES, *bodies(vote), *LONG]
        checks: list[tuple[str, Callable[[], str | None]]] = [
            *[(attack.what, partial(refused, server, attack)) for attack in requests],
            ("a body without end", partial(big_body, server, BIG_BODY[quick], chunked=False)),
            ("the same in chunks", partial(big_body, server, BIG_BODY[quick], chunked=True)),
            ("halves of requests", partial(half_open, server, CONNECTIONS[quick])),
            ("headers a byte at a time", partial(dripping, server, b"GET / HTTP/1.1\r\n", b"a")),
            ("a body a byte at a time", partial(dripping, server, server.head_of_a_body(), b" ")),
            ("idle connections", partial(crowd, server, CONNECTIONS[quick])),
            *[
                (what, partial(shown, server, f"Rater {number}"))
                for number, what in enumerate(TEXTS)
            ],
        ]
        for what, check in checks:
            problem = check() or server.problem()
            if problem:
                failures.append(f"{what}: {problem}")
        if server.votes():
            failures.append(f"{server.votes()} votes were counted")
    return Row("attacks on the labelling page", len(checks) - len(failures), len(checks), failures)


class Server:
    """`llm-gym label` in a process of its own.

    Args:
        directory: For the store and the log.
        patience: Seconds that it waits for a client.
        pairs: Of answers, to compare.
    """

    def __init__(self, directory: Path, patience: float, pairs: list[tuple[str, str]]) -> None:
        self.token = ""
        self.path = directory / "votes.db"
        self.patience = patience
        with PreferenceStore(self.path) as store:
            store.add(Comparison("Which is better?", pair) for pair in pairs)
        self._log = open(directory / "log.txt", "w+", encoding="utf-8")  # noqa: SIM115 - in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, str(patience), str(self.path)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> Server:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.place = ("127.0.0.1", int(found[1]))
                break
        self.address = "{}:{}".format(*self.place)
        session = Attack("", (), "GET", "/api/session", {TOKEN: None}, b"")
        self.token = json.loads(self.ask(session)[1])["token"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(self.place, timeout=self.patience + 30)

    def ask(self, attack: Attack) -> tuple[int, bytes]:
        """Status and body of the answer to a request; status 0 where there was none."""
        with self.connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(attack.message(self.address, self.token))
            return answer(connection)
        return 0, b""

    def vote_body(self) -> dict[str, Any]:
        """A vote that would count."""
        question = json.loads(self.ask(Attack("", ()))[1])["question"]
        return {
            "rater": "Eve",
            "question_id": question["id"],
            "fingerprint": question["fingerprint"],
            "shown_first": question["shown_first"],
            "verdict": "left",
            "seconds": 1.0,
            "key": "k" * 20,
        }

    def head_of_a_body(self) -> bytes:
        """A request whose body is still to come."""
        headers = {"Content-Length": "10000"}
        return Attack("", (), headers=headers, body=b"").message(self.address, self.token)

    def problem(self) -> str | None:
        """What is left of an attack: a server that does not answer, or a traceback."""
        if self.ask(Attack("", (), "GET", "/", {TOKEN: None}, b""))[0] != 200:
            return "the page is not served any more"
        self._log.seek(0)
        if "Traceback" in self._log.read():
            self._log.truncate(0)
            return "a traceback in the log"
        return None

    def votes(self) -> int:
        """How many were counted."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return int(connection.execute("SELECT count(*) FROM vote").fetchone()[0])

    def memory(self) -> int:
        """Bytes of its resident memory; 0 where the system does not tell."""
        with contextlib.suppress(OSError):
            pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        return 0

    def cpu(self) -> float:
        """Seconds of processor time so far; 0 where the system does not tell."""
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the first answer on a connection; status 0 where there is none."""
    file = connection.makefile("rb")
    first = file.readline().split()
    length = 0
    while line := file.readline().strip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return (int(first[1]) if len(first) > 1 else 0), file.read(length)


def refused(server: Server, attack: Attack) -> str | None:
    """Sends one request; what is wrong with the answer."""
    status, body = server.ask(attack)
    if status in attack.refused:
        return None
    return f"answered {status} {body[:80]!r}, not {' or '.join(map(str, attack.refused))}"


def big_body(server: Server, size: int, *, chunked: bool) -> str | None:
    """Sends a body as long as it is taken."""
    length = {"Transfer-Encoding": "chunked", "Content-Length": None}
    headers = length if chunked else {"Content-Length": str(size)}
    piece = b" " * 65_536
    before, most, status = server.memory(), 0, 0
    with server.connect() as connection:
        message = Attack("", (), headers=headers, body=b"").message(server.address, server.token)
        connection.sendall(message)
        with contextlib.suppress(ConnectionError):
            for number in range(size // len(piece)):
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
                if number % 16 == 0:
                    most = max(most, server.memory())
        with contextlib.suppress(ConnectionError):
            status = answer(connection)[0]
    grown = max(most, server.memory()) - before
    if grown > MOST_GROWTH:
        return f"the server's memory grew by {grown / 1e6:.0f} MB"
    return None if status in (0, 413) else f"answered {status}"


@contextlib.contextmanager
def connections(server: Server, number: int) -> Iterator[list[socket.socket]]:
    """Several at once."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(number)]


def half_open(server: Server, number: int) -> str | None:
    """Connections with half a request; how many the server keeps."""
    with connections(server, number) as opened:
        for connection in opened:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"GET / HTTP/1.1\r\nHo")
        time.sleep(server.patience + 1)
        kept = sum(not closed(connection) for connection in opened)
    return f"{kept} of {number} connections are still open" if kept else None


def closed(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection, or does so now."""
    connection.settimeout(0.2)
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def dripping(server: Server, head: bytes, drop: bytes) -> str | None:
    """A client that sends a byte now and then."""
    end = time.monotonic() + 3 * server.patience + 1
    with server.connect() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(head)
        while time.monotonic() < end:
            connection.sendall(drop)
            time.sleep(server.patience / 20)
        return "still taken after three times the server's patience"
    return None


def crowd(server: Server, number: int) -> str | None:
    """Whether a rater is served while somebody holds many connections."""
    with connections(server, number):
        return server.problem()


def shown(server: Server, rater: str) -> str | None:
    """Whether answers travel as text, with hidden characters spelled out, in a second.

    Whoever asks first is given the first comparison that nobody else has on the table.
    """
    before = server.cpu()
    status, body = server.ask(Attack("", (), body=json.dumps({"rater": rater}).encode()))
    seconds = server.cpu() - before
    if status != 200:
        return f"answered {status}"
    question = json.loads(body)["question"]
    if question is None:
        return f"there is no question: {body[:200]!r}"
    answers = question["answers"]
    characters = set().union(*(run for answer in answers for run, _ in answer)) - {"\n"}
    if len(answers) != 2 or not all(map(str.isprintable, characters)):
        return "a hidden character came through"
    if seconds > ONE_SECOND:
        return f"took {seconds:.1f} s of the server's CPU"
    return None
