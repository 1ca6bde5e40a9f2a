"""Keys and scopes: what a key file says, who is let in where, and that no error shows a key."""

import json
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from shared.runtime.http.access import SCOPES, Keyring, read_keys, scope_of
from shared.runtime.http.app import HttpSettings, create_app
from shared.runtime.key_files import write_private
from tests.support import asking

FILE = """\
# written by the operator
all-of-it

read look-1
read,operate   hands-2
judge  verdict-3
"""


def key_file(folder: Path, text: str = FILE) -> Path:
    path = folder / "keys"
    write_private(path, text)
    return path


def an_app(settings: HttpSettings) -> FastAPI:
    """One route of each scope."""
    app = create_app("test", settings, ready=dict)
    routes = [
        ("GET", "/v1/things"),
        ("POST", "/v1/things"),
        ("POST", "/v1/judgments"),
        ("POST", "/v1/comparisons:lease"),
    ]
    for number, (method, path) in enumerate(routes):
        app.add_api_route(path, lambda: "answered", methods=[method], name=f"route_{number}")
    return app


def ask(app: FastAPI, method: str, path: str, key: str | None) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return asking.ask(app, method, path, base_url="http://anywhere", headers=headers)


def test_a_line_is_a_key_with_all_scopes_or_scopes_and_a_key(tmp_path: Path) -> None:
    keys = read_keys(key_file(tmp_path))
    assert [(key.secret, set(key.scopes), key.line) for key in keys] == [
        ("all-of-it", set(SCOPES), 2),
        ("look-1", {"read"}, 4),
        ("hands-2", {"read", "operate"}, 5),
        ("verdict-3", {"judge"}, 6),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no usable key"),
        ("\n# only a remark\n", "holds no usable key"),
        ("secret\nadmin secret2\n", "line 2: an unknown scope; there are read, operate, judge"),
        ("secret1 secret2\n", "line 1: an unknown scope"),
        ("read operate secret\n", "line 1: no usable key"),
        ("read,operate\n", "line 1: scopes without a key"),
        ("clé-secret\n", "line 1: no usable key"),
        ("secret\nread secret\n", "line 2: the same key as in line 1"),
        ("read,,judge secret\n", "line 1: an unknown scope"),
    ],
)
def test_a_wrong_line_is_an_error_at_start_that_names_the_line_and_shows_no_key(
    tmp_path: Path, text: str, message: str
) -> None:
    settings = HttpSettings(api_key_file=key_file(tmp_path, text))
    with pytest.raises(ValueError, match="INPO_API_KEY_FILE") as caught:
        create_app("test", settings, ready=dict)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value).replace(str(tmp_path), "")


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe secret")
    (tmp_path / "binary").chmod(0o600)
    for path in (tmp_path / "absent", tmp_path / "binary", tmp_path):
        with pytest.raises(ValueError, match="INPO_API_KEY_FILE: cannot read") as caught:
            HttpSettings(api_key_file=path).keyring()
        assert "secret" not in str(caught.value)


def test_a_key_file_that_others_can_read_lets_nobody_in(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    path.chmod(0o644)
    with pytest.raises(ValueError, match=r"INPO_API_KEY_FILE: .* chmod 600") as caught:
        HttpSettings(api_key_file=path).keyring()
    assert "look-1" not in str(caught.value)


def test_the_key_file_goes_before_the_variable(tmp_path: Path) -> None:
    ring = HttpSettings(api_key_file=key_file(tmp_path), api_key=SecretStr("variable")).keyring()
    assert ring is not None
    assert ring.grant("Bearer variable") is None
    grant = ring.grant("Bearer hands-2")
    assert grant is not None
    assert grant.scopes == {"read", "operate"}


def test_a_ring_holds_no_key_in_the_clear(tmp_path: Path) -> None:
    ring = Keyring(read_keys(key_file(tmp_path)), "key file")
    assert "hands-2" not in json.dumps(repr(vars(ring)))


def test_each_route_wants_its_scope_and_a_missing_one_is_named(tmp_path: Path) -> None:
    """Expected: the product of routes and keys, 200 where the key's line names the route's scope."""
    app = an_app(HttpSettings(api_key_file=key_file(tmp_path)))
    routes = {
        ("GET", "/v1/things"): "read",
        ("POST", "/v1/things"): "operate",
        ("GET", "/metrics"): "read",
        ("GET", "/openapi.json"): "read",
        ("POST", "/v1/judgments"): "judge",
        ("POST", "/v1/comparisons:lease"): "judge",
    }
    keys = {"all-of-it": set(SCOPES), "look-1": {"read"}, "hands-2": {"read", "operate"}, "verdict-3": {"judge"}}
    for (method, path), scope in routes.items():
        for key, scopes in keys.items():
            response = ask(app, method, path, key)
            assert response.status_code == (200 if scope in scopes else 403), (method, path, key)
            if response.status_code == 403:
                assert f"`{scope}`" in response.json()["detail"]
                assert f'scope="{scope}"' in response.headers["www-authenticate"]
        for wrong in (None, "hands-", "hands-22", "", "judge verdict-3"):
            assert ask(app, method, path, wrong).status_code == 401
    for path in ("/healthz", "/readyz"):
        assert ask(app, "GET", path, None).status_code == 200


def test_a_route_that_nobody_thought_of_is_never_open() -> None:
    assert scope_of("GET", "/v2/anything") == "read"
    for method in ("POST", "PUT", "PATCH", "DELETE", "BREW"):
        assert scope_of(method, "/v2/anything") == "operate"
    assert scope_of("GET", "/healthz/") == "read"
