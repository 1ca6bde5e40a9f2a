"""Every HTTP error has one shape: `application/problem+json` (RFC 9457)."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from shared.contracts.rest.problems import FieldError, Problem
from shared.store.artifacts.refusals import refusal
from shared.store.queue.protocol import QueueUnavailableError

_RETRY_AFTER_S = 5
_STORAGE_RETRY_AFTER_S = 30
_TITLES = {400: "Bad request", 404: "Not found", 405: "Method not allowed"}

_log = structlog.get_logger(__name__)


class ProblemError(Exception):
    """Raised anywhere below a route: the client gets this problem.

    `headers` travel with the response; `retryable` says that the same request may succeed later.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        retryable: bool = False,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(status=status, title=title, detail=detail, retryable=retryable, errors=list(errors))
        self.headers = dict(headers or {})


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as a response. ASCII only, so that text which no encoding can carry cannot fail here."""
    body = json.dumps(problem.model_dump(), ensure_ascii=True)
    return Response(body, problem.status, dict(headers or {}), media_type="application/problem+json")


def internal_error() -> Response:
    """500 without a word about the inside; the log has the traceback."""
    detail = "The server failed to answer; its log has the reason."
    return problem_response(Problem(status=500, title="Internal error", detail=detail, retryable=True))


def storage_problem(error: Exception) -> Response | None:
    """507 where storage is full, 503 where it is read-only or failing; None for an error that is not about storage.

    Paths of the server stay in its log.
    """
    refused = refusal(error)
    if refused is None:
        return None
    full = refused.kind == "full"
    detail = f"The storage is {refused.kind}: {os.strerror(refused.errno)}. Whoever runs the service has to "
    problem = Problem(
        status=507 if full else 503,
        title="Storage full" if full else "Storage unavailable",
        detail=f"{detail}{refused.remedy}; the same request can be sent again then.",
        retryable=True,
    )
    return problem_response(problem, {"Retry-After": str(_STORAGE_RETRY_AFTER_S)})


def add_handlers(app: FastAPI) -> None:
    """Make every exception that a client can cause or should wait for a problem."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(QueueUnavailableError, _on_queue_unavailable)
    app.add_exception_handler(OSError, _on_system_error)


def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(error.problem, error.headers)


def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [_field_error(cast(Mapping[str, Any], item)) for item in error.errors()]
    detail = "; ".join(f"{item.field}: {item.message}" for item in found[:3])
    if len(found) > 3:
        detail += f"; and {len(found) - 3} more"
    return problem_response(Problem(status=422, title="Invalid request", detail=detail, errors=found))


def _field_error(error: Mapping[str, Any]) -> FieldError:
    location = [str(part) for part in error["loc"]]
    inside = location[1:] if location[:1] == ["body"] else location
    return FieldError(field=".".join(inside) or "body", message=str(error["msg"]))


def _on_http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = _TITLES.get(error.status_code, str(error.detail))
    problem = Problem(status=error.status_code, title=title, detail=str(error.detail))
    return problem_response(problem, error.headers)


def _on_queue_unavailable(_: Request, error: Exception) -> Response:
    problem = Problem(status=503, title="Queue unavailable", detail=f"Redis cannot be reached: {error}", retryable=True)
    return problem_response(problem, {"Retry-After": str(_RETRY_AFTER_S)})


def _on_system_error(request: Request, error: Exception) -> Response:
    refused = storage_problem(error)
    if refused is None:
        raise error
    _log.warning("storage_refused", method=request.method, path=request.url.path, error=str(error))
    return refused
