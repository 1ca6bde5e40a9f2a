"""Descriptions are complete: every operation has words, valid examples, refusals and a scope."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from shared.runtime.http import docs_page
from shared.runtime.key_files import write_private
from tests.integration.test_api_contract import KEYS, SERVICES

Operation = tuple[str, dict[str, Any]]


@pytest.fixture(params=sorted(SERVICES))
def description(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Of each service, with keys."""
    write_private(tmp_path / "keys", KEYS)
    app, _ = SERVICES[request.param](tmp_path, api_key_file=tmp_path / "keys")
    return app.openapi()


def operations(description: dict[str, Any]) -> Iterator[Operation]:
    for path, item in description["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def assert_valid(value: Any, schema: dict[str, Any], description: dict[str, Any]) -> None:
    """References lead into the description's components."""
    jsonschema_rs.validate({**schema, "components": description["components"]}, value)


def test_every_operation_is_named_described_and_tagged(description: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in description["tags"] if tag["description"]}
    names = [operation["operationId"] for _, operation in operations(description)]
    assert len(set(names)) == len(names)
    for label, operation in operations(description):
        assert operation["operationId"].replace("_", "").isalpha(), label
        assert operation["summary"], label
        assert len(operation["description"]) > 20, label
        assert operation["tags"], label
        assert set(operation["tags"]) <= tags, label


def test_every_operation_says_its_scope_unless_it_is_open(description: dict[str, Any]) -> None:
    for label, operation in operations(description):
        if label in ("GET /healthz", "GET /readyz"):
            assert operation["security"] == []
            assert not {"401", "403"} & set(operation["responses"])
        else:
            ((scope,),) = (names for item in operation["security"] for names in item.values())
            assert scope in ("read", "operate", "judge")
            assert f"`{scope}`" in operation["description"]
            assert {"401", "403"} <= set(operation["responses"])


def test_every_refusal_is_a_problem_with_an_example(description: dict[str, Any]) -> None:
    problem = description["components"]["schemas"]["Problem"]
    for label, operation in operations(description):
        refusals = {status: item for status, item in operation["responses"].items() if not status.startswith("2")}
        assert {"400", "413", "421", "500"} <= set(refusals), label
        for status, item in refusals.items():
            assert list(item["content"]) == ["application/problem+json"], (label, status)
            content = item["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert_valid(content["example"], problem, description)
            assert content["example"]["status"] == int(status)


def test_every_json_body_has_an_example_that_its_schema_accepts(description: dict[str, Any]) -> None:
    for label, operation in operations(description):
        bodies = [operation["requestBody"]["content"]] if "requestBody" in operation else []
        bodies += [item.get("content", {}) for item in operation["responses"].values()]
        for content in (body["application/json"] for body in bodies if "application/json" in body):
            assert "example" in content, label
            assert_valid(content["example"], content["schema"], description)


def test_the_page_shows_every_operation_and_needs_nothing_from_elsewhere(description: dict[str, Any]) -> None:
    page = docs_page.render(description)
    for label, _ in operations(description):
        assert label in page
    for outside in ("http://", "https://", "<script", "src="):
        assert outside not in page.split("<h2>Schemas</h2>")[0]
