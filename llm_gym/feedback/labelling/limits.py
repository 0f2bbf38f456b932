"""Bounds on what one client can take of a server: bytes, time and connections.

What the page itself sends is a few hundred bytes in a few milliseconds. Whatever is far beyond that
is answered with one sentence, or cut off where nobody listens.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from llm_gym.feedback.labelling.guard import Application, Message, Receive, Scope, Send, refuse

MOST_BODY = 16 * 1024  # bytes; a vote with the longest name and key has less than 1024
MOST_TARGET = 2 * 1024  # bytes of path and query
MOST_HEADERS = 16 * 1024  # bytes of all names and values
MOST_CONNECTIONS = 128  # macOS lets a process have 256 files
PATIENCE = 20.0  # seconds for a request to come in, and for its answer to be read


class Bounds:
    """ASGI middleware that reads a request whole before the application sees it, or refuses it.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 400, 408, 413, 414 or 431 itself, or lets the application answer.

        Args:
            scope: What ASGI says of the connection.
            receive: Where its messages come from.
            send: Where messages to it go.
        """
        problem = _problem(scope)
        if problem is not None:
            await refuse(send, *problem)
            return
        try:
            body = await asyncio.wait_for(_body(receive), PATIENCE)
        except _TooLongError:
            await refuse(send, 413, _TOO_LONG)
            return
        except asyncio.TimeoutError:
            await refuse(send, 408, f"The request took more than {PATIENCE:g} seconds.")
            return
        if body is None:  # the client has gone
            return
        if not _is_text(body):
            await refuse(send, 400, "The request is not text in UTF-8.")
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, replay, send)


class _TooLongError(Exception):
    """A body went on beyond the bound."""


_TOO_LONG = f"The request is longer than {MOST_BODY} bytes, which none of the page's is."


def _problem(scope: Scope) -> tuple[int, str] | None:
    target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
    if target > MOST_TARGET:
        return 414, f"The address is longer than {MOST_TARGET} bytes."
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADERS:
        return 431, f"The headers are longer than {MOST_HEADERS} bytes."
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if not declared.isdigit() or len(declared) > 18 or int(declared) > MOST_BODY:
        return 413, _TOO_LONG
    return None


def _is_text(body: bytes) -> bool:
    """Whether JSON may be in it; Python would read UTF-16 and UTF-32, too."""
    try:
        return "\0" not in body.decode("utf-8")
    except UnicodeDecodeError:
        return False


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None if the client went away meanwhile."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            raise _TooLongError
        if not message.get("more_body", False):
            return body


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, with an end to patience.

    uvicorn closes a connection that is idle after an answer. It waits for ever for a first request,
    for the rest of a request's headers and for a client that does not read. Beyond a number of
    connections it refuses (`limit_concurrency`), so that whoever opens that many keeps everybody
    else out; here the one that has been silent longest makes room.
    """

    _silent_since = 0.0
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts to wait for a request; makes room for it."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > MOST_CONNECTIONS:
            silent = [other for other in self.connections if getattr(other, "_end", None)]
            longest = min(silent, key=lambda other: other._silent_since)  # type: ignore[union-attr]
            # Now, and not only when it has been told: many may come in before that.
            self.connections.discard(longest)
            longest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Reads on; a part of a request is no request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Starts to wait for the client to read it, and for the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the wait."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        super().connection_lost(exc)

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and self._end is not None:
            self._end.cancel()
            self._end = None
        elif not answering and self._end is None:
            self._silent_since = self.loop.time()
            self._end = self.loop.call_later(PATIENCE, self.transport.abort)
