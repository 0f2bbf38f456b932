"""Attacks on the labelling page as data: what is sent, and what may come back.

`{address}` and `{token}` stand for those of the server, `{vote}` for a vote that would count.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

TOKEN = "X-LLM-Gym-Token"  # noqa: S105 - the header's name


class Attack(NamedTuple):
    """One request.

    Attributes:
        what: For the table.
        refused: Statuses with which it may be answered.
        method: Of HTTP.
        target: Path and query, as they are sent.
        headers: Beside the usual ones; None leaves a usual one out, a tuple sends it repeatedly.
        body: As it is sent.
    """

    what: str
    refused: tuple[int, ...]
    method: str = "POST"
    target: str = "/api/next"
    headers: dict[str, Any] = {}  # noqa: RUF012 - never changed
    body: bytes = b'{"rater": "Eve"}'

    def message(self, address: str, token: str) -> bytes:
        """The request as bytes."""
        usual: dict[str, Any] = {
            "Host": address,
            TOKEN: token,
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
        }
        lines = [f"{self.method} {self.target} HTTP/1.1".encode()]
        for name, value in {**usual, **self.headers}.items():
            values = value if isinstance(value, tuple) else () if value is None else (value,)
            lines += [
                f"{name}: {one}".replace("{address}", address).encode("utf-8", "surrogateescape")
                for one in values
            ]
        return b"\r\n".join([*lines, b"", b""]) + self.body


HOSTS = [
    "evil.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.localhost.example",
    "192.168.1.7",
    "169.254.169.254",
    "[2001:db8::1]",
    "0.0.0.0",  # noqa: S104 - not bound
    "2130706433",
    "user@127.0.0.1",
    "",
    "[::",
]
ORIGINS = [
    "http://evil.example",
    "https://{address}",
    "http://127.0.0.1:1",
    "http://[::1]:1",
    "http://localhost.evil.example",
    "http://{address}.evil.example",
]
NO_TOKEN = {TOKEN: None}
WHO = [
    *[Attack(f"Host: {host}", (400,), headers={"Host": host}) for host in HOSTS],
    Attack("two hosts", (400,), headers={"Host": ("{address}", "evil.example")}),
    Attack("no host", (400,), headers={"Host": None}),
    *[Attack(f"Origin: {origin}", (403,), headers={"Origin": origin}) for origin in ORIGINS],
    *[
        Attack(
            f"Origin: {origin}, for a token",
            (403,),
            "GET",
            "/api/session",
            {"Origin": origin, **NO_TOKEN},
        )
        for origin in ORIGINS
    ],
    *[Attack(f"Origin: {name}", (403,), headers={"Origin": name}) for name in ("null", "file://")],
    *[
        Attack(f"a page that is {site}", (403,), "GET", "/api/session", {"Sec-Fetch-Site": site})
        for site in ("cross-site", "same-site")
    ],
    Attack("no token", (403,), headers=NO_TOKEN),
    Attack("a wrong token", (403,), headers={TOKEN: "A" * 43}),
    Attack(
        "a form",
        (403,),
        headers={**NO_TOKEN, "Content-Type": "application/x-www-form-urlencoded"},
        body=b"rater=Eve",
    ),
    Attack("a form as text", (403,), headers={**NO_TOKEN, "Content-Type": "text/plain"}),
    Attack(
        "a preflight",
        (403,),
        "OPTIONS",
        headers={
            **NO_TOKEN,
            "Origin": "http://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": TOKEN,
        },
        body=b"",
    ),
    *[
        Attack(method, (403,), method, headers=NO_TOKEN)
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND")
    ],
    *[
        Attack(f"GET {path}", (405,), "GET", f"/api/{path}?rater=Eve", body=b"")
        for path in ("next", "vote", "undo")
    ],
    Attack(
        "a request within a request",
        (400, 403),
        headers={**NO_TOKEN, "Transfer-Encoding": "chunked", "Content-Length": "5"},
        body=b"0\r\n\r\nPOST /api/next HTTP/1.1\r\nHost: {address}\r\n\r\n",
    ),
    Attack(
        "a web socket",
        (400, 403, 405),
        "GET",
        headers={
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
        body=b"",
    ),
]

TRAVERSALS = [
    "/assets/../server.py",
    "/assets/..%2fserver.py",
    "/assets/%2e%2e/server.py",
    "/assets/%2e%2e%2fserver.py",
    "/assets/....//server.py",
    "/assets/..\\server.py",
    "/assets/..%5cserver.py",
    "/assets/%c0%ae%c0%ae/server.py",
    "/assets//etc/passwd",
    "/../../../../etc/passwd",
    "//etc/passwd",
    "/assets/label.js%00.css",
    "/assets/label.html",
    "/assets/.",
]
FILES = [
    *[Attack(f"GET {path}", (400, 404), "GET", path, body=b"") for path in TRAVERSALS],
    *[Attack(f"GET {p}", (404,), "GET", p, body=b"") for p in ("/docs", "/openapi.json")],
]

LONG = [
    Attack("an address of 60,000 bytes", (400, 414), "GET", "/" + "x" * 60_000, body=b""),
    Attack("headers of 60,000 bytes", (400, 431), "GET", headers={"More": "x" * 60_000}, body=b""),
]


def bodies(vote: dict[str, Any]) -> list[Attack]:
    """Bodies that are no vote.

    Args:
        vote: A body that would count.
    """
    raw = {
        "nothing": b"",
        "half of an object": b'{"rater": ',
        "null": b"null",
        "a list": b"[]",
        "a text": b'"x"',
        "a NUL": b"\0",
        "UTF-16": json.dumps(vote).encode("utf-16"),
        "no UTF-8": b'{"rater": "\xff\xfe"}',
        "100,000 brackets": b"[" * 100_000,
        "8,000 brackets": b"[" * 8_000,
        "an integer of 9,000 digits": b'{"rater": %s}' % (b"9" * 9000),
    }
    changes: dict[str, dict[str, Any]] = {
        "NaN seconds": {"seconds": float("nan")},
        "infinite seconds": {"seconds": float("inf")},
        "negative seconds": {"seconds": -1},
        "seconds as a text": {"seconds": "1"},
        "seconds of 400 digits": {"seconds": 10**400},
        "another verdict": {"verdict": "best"},
        "no verdict": {"verdict": None},
        "a score for a comparison": {"verdict": 50},
        "a verdict of 400 digits": {"verdict": 10**400},
        "a question of 10^30": {"question_id": 10**30},
        "a question of 2^63": {"question_id": 2**63},
        "a question as a text": {"question_id": "1"},
        "a question that is true": {"question_id": True},
        "a side that is not there": {"shown_first": 7},
        "another store's question": {"fingerprint": "0" * 16},
        "one more field": {"__proto__": {"rater": "Eve"}},
        "half of a character": {"rater": "\ud800"},
        "a turned name": {"rater": "Eve\u202e"},
        "a name of a megabyte": {"rater": "E" * 1_000_000},
        "a key of NULs": {"key": "\0" * 20},
        "no key": {"key": ""},
        "a key of a megabyte": {"key": "k" * 1_000_000},
    }
    messages = {what: json.dumps({**vote, **change}).encode() for what, change in changes.items()}
    return [
        Attack(what, (400, 404, 409, 413), target="/api/vote", body=body)
        for what, body in {**raw, **messages}.items()
    ]


TEXTS = {
    "elements and scripts": "<script>alert(1)</script><img src=x onerror=alert(1)></textarea>",
    "templates": "{{7*7}} ${7*7} {% print(7*7) %} <%= 7*7 %>",
    "orders to a terminal": "\x1b[2J\x1b]0;title\x07\x9b31m\x08\r\x7f",
    "changes of direction": "\u202eabc\u202c \u2066def\u2069 \u200f\u061c",
    "what nobody sees": "\u200b\u2060\ufeff\u00ad\U000e0041\u180e\u200d\u200c",
    "a megabyte": "word " * 200_000,
    "a megabyte of controls": "\0" * 1_000_000,
    "a megabyte of every second a control": "a\0" * 500_000,
}
