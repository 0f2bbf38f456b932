"""Keeps other people's pages and programs away from a server that runs on a person's own machine.

Any site a person visits can send requests to 127.0.0.1, and a name that resolves to it (DNS
rebinding) makes that site's scripts "same origin". So: the `Host` must be one that this server goes
by, a browser's `Origin` must be that host, and whatever changes something must carry a token that
only a page of this server could read. What it answers may load nothing from elsewhere and run no
inline script (Content Security Policy).

Where other machines can reach the server, a page gets that token only for the key that stands in
its address, behind the `#`: whoever was not given the address, by a QR code or by word of mouth,
can see nothing and change nothing. A browser sends that part of an address nowhere by itself.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from llm_gym.feedback.labelling.addresses import is_loopback

TOKEN_HEADER = "X-LLM-Gym-Token"  # noqa: S105 - the header's name, not a secret
KEY_HEADER = "X-LLM-Gym-Key"
SESSION = "/api/session"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

# A name or an address and a port, nothing else: what stands around them in a URL (`user@`) is read
# differently by different programs.
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]+)(:[0-9]{1,5})?")
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_NO_KEY = "This page needs its whole address: scan the code again, or type what is behind the #."

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


_KEY_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"  # none that is taken for another when it is typed
_KEY_LENGTH = 10  # 49 bits, which nobody guesses by asking a server


def new_token() -> str:
    """A token for one run of a server."""
    return secrets.token_urlsafe(32)


def new_key() -> str:
    """A key for the address of a server that other machines reach: short enough to be typed."""
    return "".join(secrets.choice(_KEY_LETTERS) for _ in range(_KEY_LENGTH))


class Guard:
    """ASGI middleware that refuses what did not come from the server's own page.

    Args:
        app: The application behind it.
        token: What requests that change something must carry in `TOKEN_HEADER`.
        host: The address that the server listens on. On loopback it goes by loopback names only;
            elsewhere by every address (a rebinding attack needs a name), the name of this machine
            and `host` itself.

    Attributes:
        key: What stands behind the `#` of its addresses; "" on loopback, where none is needed.
    """

    def __init__(self, app: Application, *, token: str, host: str) -> None:
        self.app = app
        self._token = token.encode()
        self._loopback_only = is_loopback(host)
        self._names = {"localhost"}
        self.key = "" if self._loopback_only else new_key()
        if not self._loopback_only:
            machine = socket.gethostname().lower()
            self._names |= {host.lower(), machine, f"{machine}.local"}

    def address(self, url: str) -> str:
        """An address of a page of this server, with the key if it needs one."""
        return f"{url}#{self.key}" if self.key else url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or lets the application answer; adds the headers either way.

        It answers 400 to a foreign host, 401 without the key, 403 to a foreign site or token.

        Args:
            scope: What ASGI says of the connection.
            receive: Where its messages come from.
            send: Where messages to it go.
        """
        if scope["type"] != "http":
            return  # there is nothing behind web sockets, and nothing to start up

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        problem = self._problem(scope)
        if problem is None:
            await self.app(scope, receive, send_with_headers)
            return
        await refuse(send_with_headers, *problem)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._goes_by(hosts[0]):
            return 400, "This server does not go by that host name."
        origins = headers.get("origin", [])
        if origins and origins != [f"http://{hosts[0]}"]:
            return 403, "Requests of other sites are refused."
        # A browser says so by itself when another site asks, even where it sends no Origin. The
        # page itself may be reached by a link.
        sites = set(headers.get("sec-fetch-site", []))
        if scope["path"].startswith("/api/") and not sites <= {"none", "same-origin"}:
            return 403, "Requests of other sites are refused."
        if self.key and scope["path"] == SESSION:
            key = headers.get(KEY_HEADER.lower(), [""])[0]
            if not hmac.compare_digest(key.encode(), self.key.encode()):
                return 401, _NO_KEY
        if scope["method"] not in _SAFE_METHODS:
            token = headers.get(TOKEN_HEADER.lower(), [""])[0]
            if not hmac.compare_digest(token.encode(), self._token):
                return 403, "The server was restarted, or the request carries no token."
        return None

    def _goes_by(self, host_header: str) -> bool:
        found = _HOST.fullmatch(host_header)
        if found is None:
            return False
        name = found["name"].strip("[]").lower()
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._loopback_only


async def refuse(send: Send, status: int, sentence: str) -> None:
    """Answers a request with an error.

    Args:
        send: Where messages to the client go.
        status: Of HTTP.
        sentence: What the client is told.
    """
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
