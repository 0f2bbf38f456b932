"""A server that strangers can reach: what they send is bounded in bytes, in time and in number."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from llm_gym.feedback.labelling import limits


@pytest.fixture
def address(desk, serve):
    url = urlsplit(serve(desk, rater="Ada"))
    return url.hostname, url.port


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(limits, "PATIENCE", 0.3)


def connect(address):
    return socket.create_connection(address, timeout=30)


def request(address, method="POST", path="/api/next", body=b"", **headers):
    """The head of a request as the page sends it, and `body` behind it."""
    host = "{}:{}".format(*address)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    head = {"Host": host, "Content-Length": len(body), **named}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer(connection):
    """Status and text of the first answer; the connection may stay open behind it."""
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    length = 0
    while line := file.readline().strip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return status, file.read(length).decode()


def token_of(address):
    with connect(address) as connection:
        connection.sendall(request(address, "GET", "/api/session"))
        return json.loads(answer(connection)[1])["token"]


def closes(connection):
    """Waits until the server has closed a connection."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


def still_answers(address):
    return len(token_of(address)) >= 43


def test_a_long_body_is_refused_before_it_is_sent(address):
    token = token_of(address)
    with connect(address) as connection:
        connection.sendall(
            request(address, Content_Length=limits.MOST_BODY + 1, X_LLM_Gym_Token=token)
        )
        status, text = answer(connection)
    assert status == 413
    assert json.loads(text)["error"].startswith("The request is longer than 16384 bytes")


def test_a_body_that_does_not_say_its_length_is_refused_at_the_bound(address):
    token = token_of(address)
    head = request(address, Transfer_Encoding="chunked", X_LLM_Gym_Token=token)
    head = head.replace(b"Content-Length: 0\r\n", b"")
    with connect(address) as connection:
        connection.sendall(head)
        for _ in range(2):
            connection.sendall(b"%x\r\n%s\r\n" % (limits.MOST_BODY, b"x" * limits.MOST_BODY))
        assert answer(connection)[0] == 413


def test_a_body_of_the_longest_length_is_read(address):
    body = json.dumps({"rater": "Ada"}).encode().ljust(limits.MOST_BODY)
    with connect(address) as connection:
        connection.sendall(
            request(
                address,
                body=body,
                X_LLM_Gym_Token=token_of(address),
                Content_Type="application/json",
            )
        )
        status, text = answer(connection)
    assert status == 200
    assert json.loads(text)["question"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/" + "x" * limits.MOST_TARGET, {}, 414),
        ("/?" + "x" * limits.MOST_TARGET, {}, 414),
        ("/", {"More": "x" * limits.MOST_HEADERS}, 431),
    ],
)
def test_long_addresses_and_headers_are_refused(address, path, headers, status):
    with connect(address) as connection:
        connection.sendall(request(address, "GET", path, **headers))
        assert answer(connection)[0] in (status, 400)  # 400 where it comes in more than one packet
    assert still_answers(address)


def test_headers_without_end_are_cut_off(address):
    with connect(address) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(4096):
            connection.sendall(b"x: " + b"y" * 4096 + b"\r\n")
        assert closes(connection)
    assert still_answers(address)


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x"])
def test_a_connection_that_never_finishes_its_request_is_closed(impatient, address, sent):
    with connect(address) as connection:
        connection.sendall(sent)
        assert closes(connection)


def test_to_send_a_little_now_and_then_does_not_keep_a_connection(impatient, address):
    with connect(address) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(1000):
            connection.sendall(b"a: b\r\n")
            time.sleep(0.01)
        pytest.fail("the connection was still open after ten seconds")


def test_a_second_request_has_to_come_in_time_too(impatient, address):
    with connect(address) as connection:
        connection.sendall(request(address, "GET", "/api/session"))
        assert answer(connection)[0] == 200
        connection.sendall(b"GET /api/se")
        assert closes(connection)


def test_a_body_that_does_not_come_is_answered_and_then_cut_off(impatient, address):
    with connect(address) as connection:
        connection.sendall(
            request(address, Content_Length=100, X_LLM_Gym_Token=token_of(address)) + b"{"
        )
        assert answer(connection)[0] == 408
        assert closes(connection)


def test_whoever_opens_many_connections_keeps_nobody_out(monkeypatch, address):
    monkeypatch.setattr(limits, "MOST_CONNECTIONS", 8)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(address)) for _ in range(40)]
        assert still_answers(address)
        assert all(closes(connection) for connection in idle[:32])
