"""Every HTTP service: problem+json for every error, the bearer key, strict bodies, health and readiness."""

import asyncio
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr
from starlette.types import Message, Receive, Scope, Send

from shared.runtime.http.app import (
    HttpSettings,
    InsecureListenError,
    ProblemError,
    check_exposure,
    create_app,
    serve,
)
from shared.runtime.http.boundary import Boundary
from shared.store.queue.protocol import QueueUnavailableError
from tests.support.asking import ask
from tests.support.data import outside_data

JSON = {"content-type": "application/json"}


class Body(BaseModel):
    """A body with a number, and anything at all."""

    number: float
    anything: dict[str, Any] = {}


def an_app(settings: HttpSettings | None = None, **parts: str | None) -> FastAPI:
    """An app with one route for each way to fail."""
    app = create_app("test", settings or HttpSettings(), ready=lambda: parts)

    @app.post("/echo")
    def echo(body: Body) -> Body:
        return body

    @app.get("/fails/{how}")
    def fails(how: str) -> None:
        raise {
            "problem": ProblemError(409, "Conflict", "somebody was faster", retryable=True),
            "queue": QueueUnavailableError("connection refused"),
            "bug": RuntimeError("the secret is 1234"),
        }[how]

    return app


def assert_problem(response: httpx.Response, status: int) -> Mapping[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    return body


def test_unknown_paths_and_wrong_methods_are_problems() -> None:
    assert_problem(ask(an_app(), "GET", "/nowhere"), 404)
    wrong_method = ask(an_app(), "GET", "/echo")
    assert_problem(wrong_method, 405)
    assert wrong_method.headers["allow"] == "POST"


def test_a_validation_error_names_the_field() -> None:
    problem = assert_problem(ask(an_app(), "POST", "/echo", json={"number": "many"}), 422)
    assert [error["field"] for error in problem["errors"]] == ["number"]
    assert "number" in problem["detail"]


def test_a_problem_raised_in_a_route_reaches_the_client_as_it_is() -> None:
    problem = assert_problem(ask(an_app(), "GET", "/fails/problem"), 409)
    assert problem["detail"] == "somebody was faster"
    assert problem["retryable"] is True


def test_an_unreachable_queue_asks_the_client_to_come_back() -> None:
    response = ask(an_app(), "GET", "/fails/queue")
    assert assert_problem(response, 503)["retryable"] is True
    assert int(response.headers["retry-after"]) > 0


def test_an_unexpected_error_is_logged_with_its_reason_and_answered_without_it() -> None:
    with structlog.testing.capture_logs() as logs:
        response = ask(an_app(), "GET", "/fails/bug")
    assert_problem(response, 500)
    assert "1234" not in response.text
    assert [(entry["event"], entry["exc_info"], entry["path"]) for entry in logs] == [
        ("request_failed", True, "/fails/bug")
    ]


@pytest.mark.parametrize("leaves", [True, False])
def test_a_stream_that_breaks_is_an_error_unless_its_reader_left(leaves: bool) -> None:
    """A stream that begins, waits for its client's next message, and breaks: told in one line when that was goodbye."""
    messages = [{"type": "http.disconnect" if leaves else "http.request"}]

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        await receive()
        raise RuntimeError("the pipe is broken")

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        assert message["type"] == "http.response.start"

    boundary = Boundary(stream, keys=None, max_body_bytes=1024)
    scope = {"type": "http", "method": "GET", "path": "/stream", "headers": [(b"host", b"localhost")]}
    with structlog.testing.capture_logs() as logs:
        if leaves:
            asyncio.run(boundary(scope, receive, send))
        else:
            with pytest.raises(RuntimeError, match="broken"):
                asyncio.run(boundary(scope, receive, send))
    assert [entry["event"] for entry in logs] == ["client_left" if leaves else "request_failed"]


def test_with_a_key_everything_but_health_and_readiness_needs_it() -> None:
    app = an_app(HttpSettings(api_key=SecretStr("open-sesame")))
    for path in ("/metrics", "/docs", "/openapi.json", "/nowhere", "/fails/problem"):
        refused = ask(app, "GET", path)
        assert_problem(refused, 401)
        assert refused.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/readyz"):
        assert ask(app, "GET", path).status_code == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer open-sesame", 200),
        ("bearer open-sesame", 200),
        ("Bearer open-", 401),
        ("Basic open-sesame", 401),
        ("open-sesame", 401),
        ("Bearer ", 401),
        ("Bearer é", 401),
    ],
)
def test_only_the_right_bearer_key_is_let_in(header: str, status: int) -> None:
    app = an_app(HttpSettings(api_key=SecretStr("open-sesame")))
    response = ask(app, "GET", "/metrics", headers={"authorization": header.encode("latin-1")})
    assert response.status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_listening_beyond_this_machine_without_a_key_is_refused(host: str) -> None:
    settings = HttpSettings(host=host)
    with pytest.raises(InsecureListenError, match="INPO_API_KEY_FILE"):
        serve(an_app(settings), settings)


def test_listening_on_this_machine_or_with_a_key_is_allowed() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        check_exposure(HttpSettings(host=host))
    check_exposure(HttpSettings(host="0.0.0.0", api_key=SecretStr("k")))


def test_readiness_names_the_parts_that_fail() -> None:
    problem = assert_problem(ask(an_app(redis="connection refused", store=None), "GET", "/readyz"), 503)
    assert problem["errors"] == [{"field": "redis", "message": "connection refused"}]
    assert ask(an_app(redis=None, store=None), "GET", "/readyz").status_code == 200


def test_metrics_count_requests_by_route_template() -> None:
    app = an_app()
    ask(app, "GET", "/fails/problem")
    text = ask(app, "GET", "/metrics").text
    assert 'inpo_http_request_seconds_count{method="GET",route="/fails/{how}",status="409"}' in text


def test_a_body_above_the_limit_is_refused_whether_or_not_it_says_its_size() -> None:
    app = an_app(HttpSettings(max_body_bytes=1024))

    async def chunks() -> Any:
        for _ in range(3):
            yield b" " * 512

    assert_problem(ask(app, "POST", "/echo", content=b" " * 1025, headers=JSON), 413)
    assert_problem(ask(app, "POST", "/echo", content=chunks(), headers=JSON), 413)


@pytest.mark.parametrize(
    "body",
    [
        b'{"number": NaN}',
        b'{"number": -Infinity}',
        b'{"number": 1e999}',
        b'{"number": 1, "anything": {"x": NaN}}',
        rb'{"number": 1, "anything": {"x": "\ud800"}}',
        rb'{"number": 1, "anything": {"\udfff": 1}}',
        b'{"number": 1, "anything": {"x": "\xff"}}',
        '{"number": 1}'.encode("utf-16"),
        b'{"number": 1, "anything": {"x": ' + b"[" * 100 + b"]" * 100 + b"}}",
        b"[" * 500_000,
        b'{"number": ' + b"9" * 5000 + b"}",
        b'{"number": 1',
        b"\x00",
        b"\xef\xbb\xbf{}",
    ],
)
def test_a_body_that_is_not_strict_json_never_reaches_a_route(body: bytes) -> None:
    problem = assert_problem(ask(an_app(), "POST", "/echo", content=body, headers=JSON), 400)
    assert "not valid JSON" in problem["detail"]


def test_an_escaped_surrogate_pair_is_a_character_like_any_other() -> None:
    response = ask(
        an_app(), "POST", "/echo", content=rb'{"number": 1, "anything": {"x": "\ud83d\ude42"}}', headers=JSON
    )
    assert response.json()["anything"] == {"x": "🙂"}


def test_every_file_of_the_json_test_suite_is_accepted_or_refused_without_a_crash() -> None:
    """Files named n_ are no JSON (400; an empty body is a missing one, 422); y_ are JSON, but no `Body` (422)."""
    app = an_app()
    with tarfile.open(outside_data("adversarial/JSONTestSuite.tar.gz")) as archive:
        files = {member.name.split("/")[-1]: member for member in archive.getmembers() if member.name.endswith(".json")}
        for name, member in files.items():
            content = archive.extractfile(member)
            assert isinstance(content, io.BufferedReader)
            body = content.read()
            status = ask(app, "POST", "/echo", content=body, headers=JSON).status_code
            expected = {"n_": {400 if body else 422}, "y_": {422}}.get(name[:2], {400, 422})
            assert status in expected, f"{name}: {status}"
    assert len(files) > 300


def test_every_naughty_string_is_carried_or_refused_without_a_crash() -> None:
    app = an_app()
    for text in json.loads(outside_data("adversarial/blns.json").read_bytes()):
        echoed = ask(app, "POST", "/echo", json={"number": 1, "anything": {"text": text}})
        assert echoed.json()["anything"] == {"text": text}
        assert ask(app, "POST", "/echo", content=text.encode(), headers=JSON).status_code in {400, 422}
        assert ask(app, "POST", "/echo", json={"number": text}).status_code in {200, 422}


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]", "[::1]:8000"])
def test_without_a_key_requests_to_this_machine_are_answered(host: str) -> None:
    assert ask(an_app(), "GET", "/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "10.0.0.1", "127.0.0.1.evil.example", ""])
def test_without_a_key_requests_to_another_host_are_refused_as_a_strangers_page_sends_them(host: str) -> None:
    body = assert_problem(ask(an_app(), "POST", "/echo", json={"number": 1}, headers={"host": host}), 421)
    assert "INPO_API_KEY_FILE" in body["detail"]


def test_with_a_key_the_host_may_have_any_name() -> None:
    app = an_app(HttpSettings(api_key=SecretStr("key")))
    headers = {"host": "controller.cluster.local", "authorization": "Bearer key"}
    assert ask(app, "GET", "/metrics", headers=headers).status_code == 200
