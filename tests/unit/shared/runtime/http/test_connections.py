"""Connections that say nothing end in time and make room; what is being answered stays."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI

from shared.runtime.http import connections
from shared.runtime.http.app import HttpSettings, create_app
from tests.support.served import served

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class SlowRoute:
    """A route that answers when it is let."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.let = threading.Event()
        self.app: FastAPI = create_app("test", HttpSettings(), ready=dict)
        self.app.add_api_route("/slow", self.answer)

    def answer(self) -> str:
        self.asked.release()
        assert self.let.wait(30.0)
        return "done"


@pytest.fixture
def slow() -> Iterator[SlowRoute]:
    route = SlowRoute()
    yield route
    route.let.set()


def connected(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((str(place.hostname), place.port or 0), timeout=20.0)


def status(connection: socket.socket, request: bytes = HEALTH) -> int:
    """The status of the answer to a request, which is read to its end."""
    connection.sendall(request)
    return answered(connection)


def answered(connection: socket.socket) -> int:
    received = b""
    while not (head := received.partition(b"\r\n\r\n"))[1]:
        received += read(connection)
    (length,) = [int(line[15:]) for line in head[0].split(b"\r\n") if line.startswith(b"content-length:")]
    body = head[2]
    while len(body) < length:
        body += read(connection)
    return int(received.split(b" ", 2)[1])


def read(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    assert part, "the connection ended"
    return part


def ended(connection: socket.socket) -> bool:
    """Whether the server ends the connection, which is waited for."""
    try:
        return connection.recv(65536) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "begun", [b"", b"GET /healthz HTTP/1.1\r\nHost: loc", HEALTH + b"GET /heal"], ids=["silent", "trickling", "second"]
)
def test_a_head_that_does_not_come_ends_the_connection(
    slow: SlowRoute, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.2)
    with served(slow.app) as url, connected(url) as connection:
        connection.sendall(begun)
        if begun.startswith(HEALTH):
            assert answered(connection) == 200
        assert ended(connection)


def test_a_body_that_nobody_reads_is_not_taken_for_ever(slow: SlowRoute, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at once, its 64 KiB too many are the last that are taken."""
    monkeypatch.setattr(connections, "UNREAD_BYTES", 64 * 2**10)
    head = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    with served(slow.app) as url, connected(url) as connection:
        assert status(connection, head) == 405
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(b"x" * 2**28)


def test_a_refused_request_leaves_the_connection_usable(slow: SlowRoute) -> None:
    head = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
    with served(slow.app) as url, connected(url) as connection:
        assert status(connection, head + b"hello") == 405
        assert status(connection) == 200


def test_one_too_many_replaces_the_connection_that_waits_longest(
    slow: SlowRoute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "YOUNG_S", 0.0)
    with served(slow.app, max_connections=3) as url, ExitStack() as stack:
        first, second, third = [stack.enter_context(connected(url)) for _ in range(3)]
        assert [status(one) for one in (third, second, first)] == [200] * 3
        fourth = stack.enter_context(connected(url))
        assert status(fourth) == 200
        assert ended(third)
        assert [status(one) for one in (first, second, fourth)] == [200] * 3


def test_while_all_are_being_answered_health_is_told_and_others_are_to_come_back(slow: SlowRoute) -> None:
    request = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(slow.app, max_connections=3) as url, ExitStack() as stack:
        busy = [stack.enter_context(connected(url)) for _ in range(3)]
        for connection in busy:
            connection.sendall(request)
            assert slow.asked.acquire(timeout=20.0)
        with connected(url) as health, connected(url) as other:
            assert status(health) == 200
            assert status(other, request) == 503
            assert ended(other)
        slow.let.set()
        assert [answered(connection) for connection in busy] == [200] * 3
