"""What scorers that ask a server share: requests that end, are tried again and run side by side."""

from __future__ import annotations

import http.client
import json
import logging
import numbers
import queue
import socket
import threading
import time
import urllib.error
import urllib.request
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from llm_gym.files.ranges import check_numbers
from llm_gym.scorers.checking import finite_number
from llm_gym.scorers.protocol import Columns, Scorer, Scores

logger = logging.getLogger(__name__)

TEMPORARY = frozenset({408, 425, 429})  # client errors that are worth another try
LONGEST_PAUSE = 30.0


class Question(NamedTuple):
    """One request to the server.

    Attributes:
        rows: Which completions it is about.
        body: What is posted, as JSON.
        read: Finds the scores, float64 `(rows,)`, in the decoded answer; raises `ValueError` where
            that makes no sense.
    """

    rows: slice
    body: bytes
    read: Callable[[Any], np.ndarray]


class RemoteScorer(Scorer):
    """Base class: asks a server, and deals with one that fails, dawdles or sends rubbish.

    Tried again after a pause of `backoff`, 2 `backoff`, 4 `backoff`, ... seconds (30 at most):
    refused and broken connections, time-outs, status 408, 425, 429 and 5xx, and answers that make
    no sense. Other statuses fail at once; redirects are not followed, so that neither texts nor
    headers go where nobody sent them. Proxies come from the environment (`HTTPS_PROXY`,
    `NO_PROXY`).

    Args:
        url: The endpoint, http or https.
        timeout: Seconds for one request in all, from connecting to the last byte of the answer.
        retries: Further attempts after the first.
        backoff: Seconds before the first retry.
        time_limit: Seconds for all attempts of a request together; None leaves that to `timeout`,
            `retries` and `backoff`.
        concurrency: The most requests at a time.
        max_response_bytes: The longest answer that is read.
        on_failure: What to do when all attempts have failed: "raise" a `ScorerError`, or a number
            that the completions of that request get as their score. With a number, each failure is
            logged as a warning and the part "failed" says (1 or 0) which rows it concerns.
        headers: Further headers, e.g. `{"Authorization": "Bearer ..."}`.
        sleep: Waits for so many seconds.
        name: Name in messages.

    Raises:
        ValueError: Not an http(s) URL, or an option out of range.
        TypeError: A number is none.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        retries: int,
        backoff: float,
        time_limit: float | None,
        concurrency: int,
        max_response_bytes: int,
        on_failure: Literal["raise"] | float,
        headers: Mapping[str, str] | None,
        sleep: Callable[[float], None],
        name: str,
    ) -> None:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(f"url must start with http:// or https:// and a host, got {url!r}")
        if address.username is not None:
            raise ValueError(
                "url must not contain a user name; pass headers={'Authorization': ...}"
            )
        self.timeout = finite_number("timeout", timeout)
        self.backoff = finite_number("backoff", backoff)
        self.time_limit = None if time_limit is None else finite_number("time_limit", time_limit)
        for parameter, seconds in (("timeout", self.timeout), ("time_limit", self.time_limit)):
            if seconds is not None:
                check_numbers(**{parameter: seconds})
        if self.backoff < 0:
            raise ValueError(f"backoff must be at least 0 seconds, got {backoff!r}")
        self.retries = integer("retries", retries, minimum=0)
        self.concurrency = integer("concurrency", concurrency, minimum=1)
        self.max_response_bytes = integer("max_response_bytes", max_response_bytes, minimum=1)
        if isinstance(on_failure, str) and on_failure != "raise":
            raise ValueError(f"on_failure must be 'raise' or a number, got {on_failure!r}")
        self.fallback = (
            None if isinstance(on_failure, str) else finite_number("on_failure", on_failure)
        )
        self.url = url
        self.headers = dict(headers or {})
        self.name = name
        self._sleep = sleep
        self._where = f"{address.scheme}://{address.netloc}{address.path}"  # no secrets of a query

    @abstractmethod
    def questions(
        self, prompts: list[str], completions: list[str], columns: Columns
    ) -> list[Question]:
        """The requests that ask for the scores of a batch."""

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        """Asks the server, `concurrency` requests at a time. See `Scorer.compute`."""
        values = np.empty(len(prompts))
        failed = np.zeros(len(prompts))
        questions = self.questions(prompts, completions, columns)
        for question, answer in zip(questions, self._answers(questions), strict=True):
            rows = question.rows
            if isinstance(answer, np.ndarray):
                values[rows] = answer
                continue
            problem = f"got no scores from {self._where}: {answer}"
            error = self.error(problem, prompts[rows], completions[rows])
            if self.fallback is None:
                raise error
            logger.warning("%s; scored %s instead", error, self.fallback)
            values[rows], failed[rows] = self.fallback, 1.0
        return Scores(values, {} if self.fallback is None else {"failed": failed})

    def _answers(self, questions: Sequence[Question]) -> Iterator[np.ndarray | str]:
        """Scores or the last problem of each question, in their order."""
        given_up = threading.Event()
        ask = partial(self._ask, self._all_headers(), given_up)
        if len(questions) == 1 or self.concurrency == 1:
            yield from map(ask, questions)
            return
        pool = ThreadPoolExecutor(min(self.concurrency, len(questions)))
        try:
            yield from pool.map(ask, questions)
        finally:  # after an error: what has been asked may end, nothing is asked any more
            given_up.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _all_headers(self) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "Accept": "application/json",
            **self.headers,
        }

    def _ask(
        self, headers: Mapping[str, str], given_up: threading.Event, question: Question
    ) -> np.ndarray | str:
        """Tries until there is an answer. Returns float64 `(rows,)`, or the last problem."""
        end = None if self.time_limit is None else time.monotonic() + self.time_limit
        problem = "no attempt"
        for attempt in range(self.retries + 1):
            if attempt:
                pause = min(self.backoff * 2 ** min(attempt - 1, 30), LONGEST_PAUSE)
                self._sleep(pause if end is None else min(pause, max(0.0, end - time.monotonic())))
            left = self.timeout if end is None else min(self.timeout, end - time.monotonic())
            if left <= 0 or given_up.is_set():
                return f"{problem} (time_limit={self.time_limit:g} s over, {attempt} attempts)"
            try:
                request = urllib.request.Request(  # noqa: S310 - only http and https come in
                    self.url, data=question.body, headers=dict(headers), method="POST"
                )
                return question.read(post(request, left, self.max_response_bytes))
            except urllib.error.HTTPError as error:
                problem = f"status {error.code} {error.reason}"
                error.close()
                if error.code < 500 and error.code not in TEMPORARY:
                    return f"{problem}, which is not worth another try"
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
                problem = str(error)
                if type(error) is not ValueError:
                    problem = f"{type(error).__name__}: {error}"
            logger.info("%s, attempt %d: %s", self.name, attempt + 1, problem)
        return f"{problem} (the last of {self.retries + 1} attempts)"


def integer(parameter: str, value: Any, *, minimum: int) -> int:
    """Checks a whole number that a user passed.

    Args:
        parameter: What it is called, for the message.
        value: The number.
        minimum: The least it may be.

    Returns:
        The number.

    Raises:
        TypeError: Not a whole number.
        ValueError: Too small.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{parameter} must be a whole number, got {value!r}")
    if value < minimum:
        raise ValueError(f"{parameter} must be at least {minimum}, got {value!r}")
    return int(value)


def post(request: urllib.request.Request, timeout: float, max_bytes: int) -> Any:
    """Sends a request and decodes its answer, in a time that no server can stretch.

    A socket's own time-out begins anew with every byte that comes, so a thread does the work, and
    the caller waits for that thread no longer than it may.

    Args:
        request: The request.
        timeout: Seconds for all of it: address, connection, answer.
        max_bytes: The longest answer that is read.

    Returns:
        The answer, decoded from JSON.

    Raises:
        TimeoutError: It took longer; its connection has been shut.
        urllib.error.HTTPError: The status is an error.
        OSError: There is no connection, or it broke.
        ValueError: The answer is too long, or not JSON.
    """
    outcomes: queue.SimpleQueue[Any] = queue.SimpleQueue()
    sockets: list[socket.socket] = []

    def work() -> None:
        try:
            outcomes.put((_read(request, timeout, max_bytes, sockets), None))
        except Exception as error:  # all of it belongs to the caller
            outcomes.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = outcomes.get(timeout=timeout)
    except queue.Empty:
        for opened in sockets:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        raise TimeoutError(f"timed out: no complete answer within {timeout:g} s") from None
    if error is not None:
        raise error
    return answer


def _read(
    request: urllib.request.Request,
    timeout: float,
    max_bytes: int,
    sockets: list[socket.socket],
) -> Any:
    opener = urllib.request.build_opener(_NoRedirects, _Plain(sockets), _Secure(sockets))
    with opener.open(request, timeout=timeout) as reply:
        text = reply.read(max_bytes + 1)
    if len(text) > max_bytes:
        raise ValueError(f"the answer is longer than max_response_bytes={max_bytes}")
    return json.loads(text)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follows nothing; the status then comes out as an HTTPError."""


def _noting(base: type[http.client.HTTPConnection], sockets: list[socket.socket]) -> Any:
    """A connection class that notes its sockets, so that another thread can shut them."""

    class Connection(base):  # type: ignore[valid-type, misc]
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    return Connection


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._class = _noting(http.client.HTTPConnection, sockets)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._class, req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._class = _noting(http.client.HTTPSConnection, sockets)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._class, req)
