"""Requests that no description would draw, as bytes on a socket: refused in our own words, never with a 500."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.test_api_contract import a_controller
from tests.support.served import served

DEEP = b"[" * 5000 + b"]" * 5000
LONG = b"9" * 5000
JSON = b"Content-Type: application/json\r\n"

REQUESTS: dict[str, tuple[bytes, int]] = {
    "a null byte in a path": (b"GET /v1/runs/%00 HTTP/1.1\r\n", 422),
    "a path that is not UTF-8": (b"GET /v1/runs/%ff%fe HTTP/1.1\r\n", 422),
    "a path that leads upwards": (b"GET /v1/runs/..%2f..%2fetc HTTP/1.1\r\n", 404),
    "an upward path as a version": (b"POST /v1/weights/..@1:promote HTTP/1.1\r\n", 422),
    "a number too large for anything": (b"GET /v1/runs/a/pairs?offset=" + LONG + b" HTTP/1.1\r\n", 422),
    "a number that is none": (b"GET /v1/runs/a/pairs?offset=NaN HTTP/1.1\r\n", 422),
    "an event id of 5,000 digits": (b"GET /v1/runs/a/events HTTP/1.1\r\nLast-Event-ID: " + LONG + b"\r\n", 404),
    "a key header with bytes": (b"POST /v1/weights:rollback HTTP/1.1\r\nIdempotency-Key: \xff\xfe\r\n", 422),
    "an endless key header": (b"POST /v1/weights:rollback HTTP/1.1\r\nIdempotency-Key: " + LONG + b"\r\n", 422),
    "an authorization of bytes": (b"GET /v1/runs HTTP/1.1\r\nAuthorization: Bearer \xff\xfe\r\n", 200),
    "a method that nobody knows": (b"BREW /v1/runs HTTP/1.1\r\n", 405),
    "a body without a type": (b"POST /v1/runs HTTP/1.1\r\n", 422),
    "a body of another type": (b"POST /v1/runs HTTP/1.1\r\nContent-Type: application/xml\r\n", 422),
}
BODIES: dict[str, tuple[bytes, int]] = {
    "deep": (DEEP, 400),
    "an integer of 5,000 digits": (b'{"seed": ' + LONG + b"}", 400),
    "a number beyond floats": (b'{"training": {"learning_rate": 1e999}}', 400),
    "bytes that are not UTF-8": (b'{"name": "\xff"}', 400),
    "a lone surrogate": (b'{"name": "\\ud800"}', 400),
    "a null byte in a text": (b'{"name": "\\u0000"}', 422),
    "a null byte in a path": (b'{"model": {"path": "\\u0000"}}', 422),
    "a list": (b"[]", 422),
    "nothing": (b"null", 422),
    "twice the same field": (b'{"name": "a", "name": "b"}', 422),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A controller without keys."""
    folder: Path = tmp_path_factory.mktemp("strange")
    app, _ = a_controller(folder)
    with served(app) as address:
        yield address


def exchange(url: str, head: bytes, body: bytes = b"") -> tuple[int, bytes]:
    """The status of the answer, and all of it."""
    place = urlsplit(url)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port or 0), timeout=20.0) as connection:
        length = b"Content-Length: %d\r\n" % len(body)
        connection.sendall(head + b"Host: localhost\r\nConnection: close\r\n" + length + b"\r\n" + body)
        received = b""
        while part := connection.recv(65536):
            received += part
    return int(received.split(b" ", 2)[1]), received


@pytest.mark.parametrize("name", REQUESTS)
def test_a_strange_request_is_answered_in_the_services_words(url: str, name: str) -> None:
    head, expected = REQUESTS[name]
    status, answer = exchange(url, head)
    assert status == expected, answer
    assert status < 400 or b"application/problem+json" in answer


@pytest.mark.parametrize("name", BODIES)
def test_a_strange_body_is_refused_in_the_services_words(url: str, name: str) -> None:
    body, expected = BODIES[name]
    status, answer = exchange(url, b"POST /v1/runs HTTP/1.1\r\n" + JSON, body)
    assert status == expected, answer
    assert b"application/problem+json" in answer
