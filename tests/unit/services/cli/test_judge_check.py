"""`inpo check-judge` against the example and against judges that each break one promise, in real servers."""

import json
import random
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from examples.judges.push_judge import Judge
from services.cli.main import app


class Example(Judge):
    """The example, silent."""

    def log_message(self, format: str, *args: object) -> None:
        pass


class Forgetful(Example):
    """Answers another comparison than the one asked, now and then."""

    def result(self, item: dict[str, Any], first: str, second: str) -> dict[str, Any]:
        answer = super().result(item, first, second)
        return answer | {"item_id": "another"} if item["id"] == "0-1" else answer


class Sure(Example):
    """Thinks that probabilities go up to two."""

    def result(self, item: dict[str, Any], first: str, second: str) -> dict[str, Any]:
        answer = super().result(item, first, second)
        return answer | {"p": 2 * answer["p"]}


class Moody(Example):
    """Answers differently every time, and does not say so."""

    def result(self, item: dict[str, Any], first: str, second: str) -> dict[str, Any]:
        return super().result(item, first, second) | {"p": random.random()}


class Positional(Example):
    """Matches by position instead of by id."""

    num = 0

    def result(self, item: dict[str, Any], first: str, second: str) -> dict[str, Any]:
        Positional.num += 1
        return super().result(item, first, second) | {"p": (Positional.num % 28) / 28}


class Agreeable(BaseHTTPRequestHandler):
    """Answers everything, whatever is asked."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"judge": {"id": "yes", "revision": "1"}, "results": []}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Anonymous(Agreeable):
    """Does not answer without items."""

    def do_POST(self) -> None:
        self.send_error(422)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Generator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/judgments"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def checked(handler: type[BaseHTTPRequestHandler]) -> tuple[int, list[str]]:
    """Exit code, and the lines of broken promises."""
    with serving(handler) as url:
        result = CliRunner().invoke(app, ["check-judge", url])
    return result.exit_code, [line for line in result.output.splitlines() if line.startswith("BROKEN")]


def test_the_example_keeps_every_promise() -> None:
    assert checked(Example) == (0, [])


@pytest.mark.parametrize(
    ("handler", "promise"),
    [
        (Forgetful, "Every comparison gets one result"),
        (Sure, "Every comparison gets one result"),
        (Moody, "Equal questions get equal answers"),
        (Positional, "The order of the items changes no answer"),
        (Agreeable, "Refuses no JSON with 4xx"),
        (Anonymous, "A request without items"),
    ],
)
def test_a_broken_promise_is_named_and_ends_with_exit_code_1(
    handler: type[BaseHTTPRequestHandler], promise: str
) -> None:
    code, broken = checked(handler)
    assert code == 1
    assert any(promise in line for line in broken), broken


def test_a_judge_that_is_not_there_is_an_error_without_a_traceback() -> None:
    result = CliRunner().invoke(app, ["check-judge", "http://127.0.0.1:1/v1/judgments"])
    assert result.exit_code == 1
    assert "http://127.0.0.1:1/v1/judgments" in result.output
    assert "Traceback" not in result.output
