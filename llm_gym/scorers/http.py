"""A scorer behind an HTTP endpoint: a judge on another machine, in another process or language.

One POST per batch, JSON both ways:

    {"prompts": ["..."], "completions": ["..."], "answer": ["..."]}   ->   {"scores": [0.5]}

Besides prompts and completions the request carries the prompts' columns and, where prompts are made
of messages, the conversations as `messages`. The answer may have other keys, which are ignored.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from llm_gym.scorers.calling import ScorerSignatureError
from llm_gym.scorers.checking import as_real_vector
from llm_gym.scorers.protocol import Columns
from llm_gym.scorers.remote import Question, RemoteScorer, integer
from llm_gym.scorers.texts import conversation, messages_of


class HTTPScorer(RemoteScorer):
    """Scores by asking an HTTP endpoint. The format is in the module's docstring.

    Tried again after a pause of `backoff`, 2 `backoff`, 4 `backoff`, ... seconds (30 at most):
    refused and broken connections, time-outs, status 408, 425, 429 and 5xx, and answers that are
    not one finite number per completion. Other statuses fail at once; redirects are not followed,
    so that neither texts nor headers go where nobody sent them. Proxies come from the environment
    (`HTTPS_PROXY`, `NO_PROXY`).

    Args:
        url: The endpoint, http or https.
        timeout: Seconds for one request in all, from connecting to the last byte of the answer.
        retries: Further attempts after the first.
        backoff: Seconds before the first retry.
        time_limit: Seconds for all attempts of a request together; None leaves that to `timeout`,
            `retries` and `backoff`.
        batch_size: Completions per request; None sends each batch whole.
        concurrency: The most requests at a time.
        max_response_bytes: The longest answer that is read.
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
        time_limit: float | None = None,
        batch_size: int | None = None,
        concurrency: int = 8,
        max_response_bytes: int = 2**24,
        on_failure: Literal["raise"] | float = "raise",
        headers: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        name: str = "http",
    ) -> None:
        super().__init__(
            url,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
            time_limit=time_limit,
            concurrency=concurrency,
            max_response_bytes=max_response_bytes,
            on_failure=on_failure,
            headers=headers,
            sleep=sleep,
            name=name,
        )
        self.batch_size = (
            None if batch_size is None else integer("batch_size", batch_size, minimum=1)
        )
        self.columns = None if columns is None else tuple(columns)

    def questions(
        self, prompts: list[str], completions: list[str], columns: Columns
    ) -> list[Question]:
        """One request per `batch_size` completions. See `RemoteScorer.questions`."""
        size = self.batch_size or len(prompts)
        cuts = [slice(start, start + size) for start in range(0, len(prompts), size)]
        return [
            Question(
                rows,
                self._body(prompts, completions, columns, rows),
                partial(_scores_in, size=len(prompts[rows])),
            )
            for rows in cuts
        ]

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
        row_prompts, row_completions = prompts[rows], completions[rows]
        talk = {}
        if any(messages_of(prompt) for prompt in row_prompts):
            talk["messages"] = [
                conversation(*pair) for pair in zip(row_prompts, row_completions, strict=True)
            ]
        try:
            chosen = {name: columns[name][rows] for name in names}
            message = {"prompts": row_prompts, "completions": row_completions, **talk, **chosen}
            return json.dumps(message).encode()
        except (TypeError, ValueError) as error:
            raise ScorerSignatureError(
                f"scorer {self.name!r} cannot send the columns {sorted(names)} as JSON ({error}); "
                "choose what to send with columns=[...]"
            ) from error

    def __repr__(self) -> str:
        return f"HTTPScorer({self._where!r})"


def _scores_in(answer: Any, size: int) -> np.ndarray:
    if not isinstance(answer, dict) or "scores" not in answer:
        raise ValueError('the answer is not a JSON object with the key "scores"')
    values, problem, row = as_real_vector(answer["scores"], size)
    if problem is not None:
        where = "" if row is None else f" in row {row}"
        raise ValueError(f"the answer has {problem}{where}")
    return values
