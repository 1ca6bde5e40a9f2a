"""Who may not ask is refused before a byte of his body is read; bodies come in time, large ones are checked aside."""

import asyncio
import threading
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import Message

from shared.runtime.http import boundary
from shared.runtime.http.app import HttpSettings, create_app
from tests.support.asking import ask

KEYED = HttpSettings(api_key=SecretStr("open-sesame"))


def an_app(settings: HttpSettings | None = None) -> FastAPI:
    """An app with one route that takes anything."""
    app = create_app("test", settings or HttpSettings(), ready=dict)

    @app.post("/things")
    def take(body: dict[str, Any]) -> int:
        return len(body)

    return app


def status_unread(app: FastAPI, method: str, path: str) -> int:
    """The status of an answer that is given without asking for the body, of which 16 MiB are announced."""
    statuses: list[int] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"host", b"localhost"), (b"content-length", b"16777216"), (b"idempotency-key", b"x")]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    asyncio.run(app({**scope, "headers": headers}, receive, send))
    return statuses[0]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "BREW"])
def test_open_paths_take_nothing_that_has_a_body(path: str, method: str) -> None:
    assert status_unread(an_app(KEYED), method, path) == 405


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_open_paths_answer_get_and_head_whatever_body_is_announced(path: str) -> None:
    assert [status_unread(an_app(KEYED), method, path) for method in ("GET", "HEAD")] == [200, 200]


@pytest.mark.parametrize("path", ["/things", "/nowhere"])
def test_without_the_key_no_byte_of_a_body_is_read(path: str) -> None:
    assert status_unread(an_app(KEYED), "POST", path) == 401


def test_methods_that_are_made_up_are_one_series_of_the_metrics() -> None:
    app = an_app()
    for method in ("BREW", "POUR", "STIR"):
        assert ask(app, method, "/things").status_code == 405
    text = ask(app, "GET", "/metrics").text
    assert 'method="other"' in text
    assert not any(name in text for name in ("BREW", "POUR", "STIR"))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://127.0.0.1:3000"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[evil"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_without_keys_nothing_is_changed_for_another_sites_page(headers: dict[str, str], status: int) -> None:
    assert ask(an_app(), "POST", "/things", json={}, headers=headers).status_code == status
    assert ask(an_app(), "GET", "/healthz", headers=headers).status_code == 200


def test_with_keys_the_key_says_who_asks() -> None:
    headers = {"origin": "https://dashboard.example", "authorization": "Bearer open-sesame"}
    assert ask(an_app(KEYED), "POST", "/things", json={}, headers=headers).status_code == 200


def test_a_body_that_trickles_is_refused_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "BODY_GRACE_S", 0.1)

    async def trickle() -> Any:
        yield b'{"a": '
        await asyncio.Event().wait()

    response = ask(an_app(), "POST", "/things", content=trickle(), headers={"content-type": "application/json"})
    assert (response.status_code, response.headers["connection"]) == (408, "close")
    assert "6 bytes" in response.json()["detail"]


@pytest.mark.parametrize(("size", "on_the_loop"), [(2**10, True), (2**20, False)])
def test_a_large_body_is_checked_beside_the_event_loop(
    size: int, on_the_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def check(body: bytes) -> None:
        threads.append(threading.current_thread())

    monkeypatch.setattr(boundary, "json_fault", check)
    assert ask(an_app(), "POST", "/things", json={"text": "x" * size}).status_code == 200
    assert [thread is threading.main_thread() for thread in threads] == [on_the_loop]
