"""A scorer behind an HTTP endpoint: a judge on another machine, in another process or language.

One POST per batch, JSON both ways:

    {"prompts": ["..."], "completions": ["..."], "answer": ["..."]}   ->   {"scores": [0.5]}

Besides prompts and completions the request carries the prompts' columns. The answer may have other
keys, which are ignored.
"""

from __future__ import annotations

import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from llm_gym.scorers.calling import ScorerSignatureError
from llm_gym.scorers.checking import as_real_vector, finite_number
from llm_gym.scorers.protocol import Columns, Scorer, Scores

logger = logging.getLogger(__name__)

TEMPORARY = frozenset({408, 425, 429})  # client errors that are worth another try


class HTTPScorer(Scorer):
    """Scores by asking an HTTP endpoint. The format is in the module's docstring.

    Tried again after a pause of `backoff`, 2 `backoff`, 4 `backoff`, ... seconds (30 at most):
    refused and broken connections, time-outs, status 408, 425, 429 and 5xx, and answers that are
    not one finite number per completion. Other statuses fail at once; redirects are not followed,
    so that neither texts nor headers go where nobody sent them. Proxies come from the environment
    (`HTTPS_PROXY`, `NO_PROXY`).

    Args:
        url: The endpoint, http or https.
        timeout: Seconds to wait for the connection and for each piece of the answer.
        retries: Further attempts after the first.
        backoff: Seconds before the first retry.
        batch_size: Completions per request; None sends each batch whole.
        on_failure: What to do when all attempts have failed: "raise" a `ScorerError`, or a number
            that the completions of that request get as their score. With a number, each failure is
            logged as a warning and the part "failed" says (1 or 0) which rows it concerns.
        headers: Further headers, e.g. `{"Authorization": "Bearer ..."}`.
        columns: Names of the columns to send; None sends all.
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
        timeout: float = 30.0,
        retries: int = 3,
        backoff: float = 0.5,
        batch_size: int | None = None,
        on_failure: str | float = "raise",
        headers: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        name: str = "http",
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
        if self.timeout <= 0 or self.backoff < 0:
            raise ValueError(
                f"timeout must be above 0 and backoff at least 0, got {timeout!r} and {backoff!r}"
            )
        if retries < 0:
            raise ValueError(f"retries must be at least 0, got {retries!r}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 or None, got {batch_size!r}")
        if isinstance(on_failure, str) and on_failure != "raise":
            raise ValueError(f"on_failure must be 'raise' or a number, got {on_failure!r}")
        self.fallback = (
            None if isinstance(on_failure, str) else finite_number("on_failure", on_failure)
        )
        self.url = url
        self.retries = retries
        self.batch_size = batch_size
        self.headers = dict(headers or {})
        self.columns = None if columns is None else tuple(columns)
        self.name = name
        self._sleep = sleep
        self._where = f"{address.scheme}://{address.netloc}{address.path}"  # no secrets of a query

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        """Asks the endpoint, one request per `batch_size` completions. See `Scorer.compute`."""
        size = self.batch_size or len(prompts)
        values = np.empty(len(prompts))
        failed = np.zeros(len(prompts))
        for start in range(0, len(prompts), size):
            rows = slice(start, start + size)
            body = self._body(prompts, completions, columns, rows)
            answer = self._ask(body, len(prompts[rows]))
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

    def _body(
        self, prompts: list[str], completions: list[str], columns: Columns, rows: slice
    ) -> bytes:
        names = list(columns) if self.columns is None else self.columns
        missing = [name for name in names if name not in columns]
        if missing:
            raise ScorerSignatureError(
                f"scorer {self.name!r} was told to send {missing[0]!r}, which is not a column of "
                f"the prompts (columns: {sorted(columns) or 'none'})"
            )
        try:
            chosen = {name: columns[name][rows] for name in names}
            message = {"prompts": prompts[rows], "completions": completions[rows], **chosen}
            return json.dumps(message).encode()
        except (TypeError, ValueError) as error:
            raise ScorerSignatureError(
                f"scorer {self.name!r} cannot send the columns {sorted(names)} as JSON ({error}); "
                "choose what to send with columns=[...]"
            ) from error

    def _ask(self, body: bytes, size: int) -> np.ndarray | str:
        """Tries until there is an answer. Returns float64 `(size,)`, or the last problem."""
        for attempt in range(self.retries + 1):
            if attempt:
                self._sleep(min(self.backoff * 2 ** (attempt - 1), 30.0))
            try:
                values, problem, row = as_real_vector(self._post(body), size)
            except urllib.error.HTTPError as error:
                problem = f"status {error.code} {error.reason}"
                error.close()
                if error.code < 500 and error.code not in TEMPORARY:
                    return f"{problem}, which is not worth another try"
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if problem is None:
                    return values
                problem = f"the answer has {problem}" + ("" if row is None else f" in row {row}")
            logger.info("%s, attempt %d: %s", self.name, attempt + 1, problem)
        return f"{problem} (the last of {self.retries + 1} attempts)"

    def _post(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(  # noqa: S310 - __init__ lets only http and https in
            self.url, data=body, headers=headers | self.headers, method="POST"
        )
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=self.timeout) as reply:
            answer = json.load(reply)
        if not isinstance(answer, dict) or "scores" not in answer:
            raise ValueError('the answer is not a JSON object with the key "scores"')
        return answer["scores"]

    def __repr__(self) -> str:
        return f"HTTPScorer({self._where!r})"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follows nothing; the status then comes out as an HTTPError."""
