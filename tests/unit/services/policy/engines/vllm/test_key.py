"""The key in front of vLLM: asked for at every route, whatever the stock server would leave open."""

import importlib.util
from typing import Any

import pytest

from services.policy.engines.vllm.serving import EXTENSION, KEY_CLASS
from tests.support.asking import ask


async def admin(scope: Any, receive: Any, send: Any) -> None:
    """Answers everything, as the server's own routes would."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The middleware as the server finds it: by the name that it is given, in the folder on its path."""
    monkeypatch.setenv("VLLM_API_KEY", "sesame")
    module_name, class_name = KEY_CLASS.rsplit(".", 1)
    found = importlib.util.spec_from_file_location(module_name, EXTENSION / f"{module_name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return getattr(module, class_name)(admin)


def status(app: Any, path: str, headers: list[tuple[str, str]], method: str = "POST") -> int:
    return ask(app, method, path, base_url="http://x", headers=headers).status_code


PATHS = ["/collective_rpc", "/pause", "/sleep", "/update_weight_version", "/v1/completions", "/metrics", "/health/../x"]


@pytest.mark.parametrize("path", PATHS)
def test_no_route_answers_without_the_key(guarded: Any, path: str) -> None:
    wrong: list[list[tuple[str, str]]] = [
        [],
        [("authorization", "Bearer guess")],
        [("authorization", "sesame")],
        [("authorization", "Bearer sesame"), ("authorization", "Bearer guess")],
        [("x-key", "Bearer sesame")],
    ]
    for headers in wrong:
        for method in ("POST", "GET", "OPTIONS"):
            assert status(guarded, path, headers, method) == 401
    assert status(guarded, path, [("Authorization", "Bearer sesame")]) == 200


def test_health_is_open_for_whoever_keeps_the_server_running(guarded: Any) -> None:
    assert status(guarded, "/health", [], "GET") == 200
