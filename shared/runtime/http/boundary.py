"""The outermost layer of an HTTP service: who may ask, which bodies enter, and what happens when a route fails.

A body that passes is below the size limit and, where it is JSON, is JSON in the strict sense: UTF-8, no NaN and no
infinity, no lone surrogate, not nested deeper than `MAX_DEPTH`. Nothing behind this layer has to think of those.
"""

import ipaddress
import json
import math
import time
from typing import Any, NoReturn, cast

import structlog
from prometheus_client import Histogram
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from shared.contracts.rest.problems import Problem
from shared.runtime.http.access import Grant, Keyring, Scope, scope_of
from shared.runtime.http.problems import internal_error, problem_response, storage_problem

MAX_DEPTH = 64
EVERYTHING = Grant("this machine, without a key", frozenset({"read", "operate", "judge"}))

_log = structlog.get_logger(__name__)
_seconds = Histogram("inpo_http_request_seconds", "Time to answer a request.", ["method", "route", "status"])


class Boundary:
    """ASGI middleware; see the module's docstring. Health and readiness need no key, everything else does.

    Without keys, requests must be addressed to this machine: pages of strangers cannot ask through a browser.
    `scope["state"]["grant"]` tells the routes whose key it was.
    """

    def __init__(self, app: ASGIApp, *, keys: Keyring | None, max_body_bytes: int) -> None:
        self._app = app
        self._keys = keys
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """One request; an exception that no handler turned into a problem ends here as a 500."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer, client = _Answer(send), _Client(receive)
        started = time.monotonic()
        try:
            await self._guarded(scope, client, answer)
        except Exception as error:
            if answer.status and client.gone:
                # A stream whose reader left breaks somewhere below; nobody is there to be told, and nothing is wrong.
                _log.info("client_left", method=scope["method"], path=scope["path"], error=type(error).__name__)
                return
            # The boundary of the process: nothing may leave it except a problem, and the log keeps the reason.
            _log.exception("request_failed", method=scope["method"], path=scope["path"])
            if answer.status:
                raise
            await (storage_problem(error) or internal_error())(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            _seconds.labels(scope["method"], route, str(answer.status)).observe(time.monotonic() - started)

    async def _guarded(self, scope: Connection, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refused = self._refused(scope, headers)
        if refused is not None:
            await refused(scope, receive, send)
            return
        body = await _read(receive, self._declared_size(headers), self._max_body_bytes)
        if body is None:
            detail = f"The body is larger than {self._max_body_bytes} bytes."
            refusal = Problem(status=413, title="Body too large", detail=detail)
            await problem_response(refusal, {"Connection": "close"})(scope, receive, send)
            return
        wrong = _json_fault(body) if body and _is_json(headers.get("content-type", "")) else None
        if wrong is not None:
            refusal = Problem(status=400, title="Invalid JSON", detail=f"The body is not valid JSON: {wrong}.")
            await problem_response(refusal)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _refused(self, scope: Connection, headers: Headers) -> Response | None:
        """Why this caller gets no answer, None where he gets one."""
        if self._keys is None and not is_loopback(_host_name(headers.get("host", ""))):
            return _misdirected()
        needed = scope_of(scope["method"], scope["path"])
        grant = EVERYTHING if self._keys is None else self._keys.grant(headers.get("authorization", ""))
        if needed is not None and grant is None:
            return _unauthorized()
        if needed is not None and grant is not None and needed not in grant.scopes:
            return _forbidden(needed)
        scope.setdefault("state", {})["grant"] = grant
        return None

    @staticmethod
    def _declared_size(headers: Headers) -> int:
        declared = headers.get("content-length", "0")
        return int(declared) if declared.isdecimal() else 0


class _Answer:
    """`send` that remembers the status, 0 until a response has started."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class _Client:
    """`receive` that remembers whether the client has gone."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.gone = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        return message


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, out of reach for all others."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(header: str) -> str:
    """The Host header without its port; an IPv6 address without its brackets."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() else header
    return name.removeprefix("[").removesuffix("]")


def _misdirected() -> Response:
    """Without a key only this machine may ask: a browser made to ask by a stranger names him as host."""
    detail = "Without a key this service answers requests to 127.0.0.1 or localhost only; set INPO_API_KEY_FILE."
    return problem_response(Problem(status=421, title="Misdirected request", detail=detail))


def _unauthorized() -> Response:
    detail = "Send the header `Authorization: Bearer KEY` with this service's key."
    refusal = Problem(status=401, title="Unauthorized", detail=detail)
    return problem_response(refusal, {"WWW-Authenticate": "Bearer"})


def _forbidden(needed: Scope) -> Response:
    detail = f"This key does not have the scope `{needed}`; ask with one that has."
    refusal = Problem(status=403, title="Scope missing", detail=detail)
    return problem_response(refusal, {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{needed}"'})


async def _read(receive: Receive, declared: int, limit: int) -> bytes | None:
    """The whole body, or None when it is above the limit; a client that left leaves an empty body."""
    if declared > limit:
        return None
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        chunk = cast(bytes, message.get("body", b""))
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    delivered = False

    async def replayed() -> Message:
        nonlocal delivered
        if delivered:
            return await receive()
        delivered = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _json_fault(body: bytes) -> str | None:
    """What keeps a body from being strict JSON; None when nothing does."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        return f"nested deeper than {MAX_DEPTH}"
    except ValueError as error:
        return str(error)
    return _structure_fault(value, may_hold_surrogates="\\u" in text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number is too large for a float")
    return value


def _structure_fault(value: Any, *, may_hold_surrogates: bool) -> str | None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                entries = cast(dict[str, Any], item)
                below.extend(entries.values())
                if may_hold_surrogates:
                    below.extend(entries)
            elif isinstance(item, list):
                below.extend(cast(list[Any], item))
            elif may_hold_surrogates and isinstance(item, str) and not _encodable(item):
                return "a string holds a lone surrogate"
        if not below:
            return None
        level = below
    return f"nested deeper than {MAX_DEPTH}"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
