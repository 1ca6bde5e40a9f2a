"""The description of a service's API: complete without a route having to repeat what is true of all of them.

A route declares its own refusals and examples; keys, scopes, bodies and failures are added here, as `Boundary` makes
them.
"""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from shared.contracts.rest.problems import Problem
from shared.runtime.http.access import SCOPES, scope_of

Schema = dict[str, Any]

_REQUEST, _RESPONSE = "x-request", "x-response"
_PROBLEM = "#/components/schemas/{model}"
_TAGS = {
    "runs": "Runs: created, followed, paused, resumed, cancelled.",
    "contents": "What a run has made: iterations with their measurements, preference pairs.",
    "weights": "Committed weight versions, and which of them outsiders are served.",
    "completions": "OpenAI-compatible completions by the promoted weights.",
    "judging": "Judges: asked here, or answering from outside.",
    "operations": "Health, readiness, metrics.",
}
_EVERYWHERE = {
    400: ("Bad request", "The body is not strict JSON, or a header is malformed."),
    413: ("Body too large", "The body is larger than INPO_MAX_BODY_BYTES."),
    421: ("Misdirected request", "The service has no keys and the request is not addressed to this machine."),
    500: ("Internal error", "The server failed; its log has the reason. The same request may succeed later."),
}
_GUARDED = {
    401: ("Unauthorized", "The service has keys, and the request has none of them."),
    403: (
        "Scope missing",
        "The key does not have the scope that the route needs; or there are no keys, and another site's page asks.",
    ),
    503: (
        "Unavailable",
        "Too many connections or requests of this kind, or the artifact store is read-only or failing; the same "
        "request may succeed later.",
    ),
}


def refusals(reasons: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers these statuses with a problem, and when it does."""
    return {status: _refusal(status, "Refused", reason) for status, reason in reasons.items()}


def examples(*, response: Any = None, request: Any = None) -> Schema:
    """The `openapi_extra` of a route: examples of its JSON bodies. As text, because the framework drops nulls."""
    given = {_REQUEST: request, _RESPONSE: response}
    return {name: json.dumps(value) for name, value in given.items() if value is not None}


def describe(app: FastAPI, *, with_keys: bool, with_ledger: bool) -> None:
    """Make the app's `openapi()` complete; it is made once, when it is first asked for."""

    def openapi() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(app, with_keys=with_keys, with_ledger=with_ledger)
        return app.openapi_schema

    app.openapi = openapi


def _complete(app: FastAPI, *, with_keys: bool, with_ledger: bool) -> Schema:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema.setdefault("components", {})
    schemas: Schema = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    problem = Problem.model_json_schema(ref_template=_PROBLEM)
    schemas |= {**problem.pop("$defs"), "Problem": problem}
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": f"A key of INPO_API_KEY_FILE. Scopes: {', '.join(SCOPES)}.",
        }
    }
    used: set[str] = set()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            used.update(operation.get("tags", []))
            _add_examples(operation)
            _add_refusals(path, method, operation, with_ledger=with_ledger)
            _add_security(path, method, operation, with_keys=with_keys)
    schema["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items() if name in used]
    return schema


def _add_examples(operation: Schema) -> None:
    if _REQUEST in operation:
        operation["requestBody"]["content"]["application/json"]["example"] = json.loads(operation.pop(_REQUEST))
    if _RESPONSE in operation:
        success = next(item for status, item in operation["responses"].items() if status.startswith("2"))
        success["content"]["application/json"]["example"] = json.loads(operation.pop(_RESPONSE))


def _add_refusals(path: str, method: str, operation: Schema, *, with_ledger: bool) -> None:
    responses: Schema = operation["responses"]
    common = _common_refusals(path, method, operation, with_ledger=with_ledger)
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]  # the framework's own, in a shape that is never sent
    for status, declared in responses.items():
        if not status.startswith("2") and "application/problem+json" not in declared.get("content", {}):
            responses[status] = _refusal(int(status), "Refused", declared["description"])
    for status, (title, reason) in common.items():
        own = responses.get(str(status))
        if own is None:
            responses[str(status)] = _refusal(status, title, reason)
        elif reason not in own["description"]:
            own["description"] += f" Or: {reason}"
    operation["responses"] = dict(sorted(responses.items()))


def _common_refusals(path: str, method: str, operation: Schema, *, with_ledger: bool) -> dict[int, tuple[str, str]]:
    common = dict(_EVERYWHERE)
    if scope_of(method.upper(), path) is not None:
        common |= _GUARDED
    if "requestBody" in operation or "parameters" in operation:
        common[422] = ("Invalid request", "A field is wrong; `errors` names it.")
    if method == "post":
        common[408] = ("Body too slow", "The body did not come in time.")
        common[507] = ("Storage full", "The artifact store is full; nothing was taken.")
    if with_ledger and method == "post":
        common[409] = ("In flight", "A request with this Idempotency-Key is being worked on.")
    return common


def _add_security(path: str, method: str, operation: Schema, *, with_keys: bool) -> None:
    scope = scope_of(method.upper(), path)
    if scope is None:
        operation["security"] = []
        return
    operation["security"] = [{"bearer": [scope]}] if with_keys else [{}, {"bearer": [scope]}]
    operation["description"] = f"{operation.get('description', '')}\n\nScope: `{scope}`.".lstrip()


def _refusal(status: int, title: str, reason: str) -> Schema:
    example = Problem(status=status, title=title, detail=reason, retryable=status >= 500)
    content = {"schema": {"$ref": _PROBLEM.format(model="Problem")}, "example": example.model_dump()}
    described: Schema = {"description": reason, "content": {"application/problem+json": content}}
    if status == 503:
        text = "Seconds after which it is worth trying again."
        described["headers"] = {"Retry-After": {"description": text, "schema": {"type": "integer"}}}
    return described
