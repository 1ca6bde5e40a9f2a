"""Strings that break programs, in every text field of a description's examples: carried or refused, never a 5xx."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.test_api_contract import FUZZ_CASES, SERVICES
from tests.support.data import outside_data
from tests.support.served import served

Place = tuple[str | int, ...]


def texts_in(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where the texts of a JSON value stand."""
    if isinstance(value, str):
        yield place
    entries: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        entries = list(value.items())  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list):
        entries = list(enumerate(value))  # pyright: ignore[reportUnknownArgumentType]
    for name, inner in entries:
        yield from texts_in(inner, (*place, name))


def replaced(value: Any, place: Place, text: str) -> Any:
    changed = deepcopy(value)
    inner = changed
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = text
    return changed


@pytest.mark.timeout(3600 if FUZZ_CASES > 20 else 120)
@pytest.mark.parametrize("service", SERVICES)
def test_no_naughty_string_in_any_text_field_is_an_error_of_the_server(service: str, tmp_path: Path) -> None:
    """A few strings that change from field to field; all of them for `INPO_FUZZ_CASES` above 20."""
    naughty: list[str] = json.loads(outside_data("adversarial/blns.json").read_bytes())
    app, known = SERVICES[service](tmp_path)
    num = len(naughty) if FUZZ_CASES > 20 else 8
    seen: set[int] = set()
    with served(app) as url, httpx.Client(base_url=url, timeout=60.0, trust_env=False) as client:
        paths = client.get("/openapi.json").json()["paths"]
        bodies = [
            (path.format_map({"action": "pause", **known}), operations["post"]["requestBody"])
            for path, operations in paths.items()
            if "requestBody" in operations.get("post", {})
        ]
        asked = [
            (path, example, place)
            for path, body in bodies
            for example in [body["content"]["application/json"]["example"]]
            for place in texts_in(example)
        ]
        assert asked
        for index, (path, example, place) in enumerate(asked):
            for number in range(num):
                text = naughty[(index * num + number) % len(naughty)]
                response = client.post(path, json=replaced(example, place, text))
                assert response.status_code < 500 or response.status_code == 503, (path, place, text, response.text)
                seen.add(response.status_code)
    assert seen & {200, 201, 422}
