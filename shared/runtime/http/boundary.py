"""The outermost layer of an HTTP service: who may ask, which bodies enter, and what happens when a route fails.

Who may not ask is refused before a byte of his body is read. A body that passes came in time, is below the size limit
and, where it is JSON, is JSON in the strict sense of `json_bodies`. Nothing behind this layer has to think of those.
"""

import asyncio
import ipaddress
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import structlog
from prometheus_client import Histogram
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from shared.contracts.rest.problems import Problem
from shared.runtime.http.access import OPEN_PATHS, SAFE_METHODS, Grant, Keyring, Scope, scope_of
from shared.runtime.http.json_bodies import json_fault
from shared.runtime.http.problems import internal_error, problem_response, storage_problem

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
# A body may take this long, and as much longer as its bytes so far take at the slowest rate that counts as coming.
BODY_GRACE_S = 10.0
BODY_BYTES_PER_S = 16 * 2**10
# A JSON body up to this size is checked at once; a larger one by a thread, one after the other.
SMALL_BODY_BYTES = 64 * 2**10
_OPEN_METHODS = frozenset({"GET", "HEAD"})
EVERYTHING = Grant("this machine, without a key", frozenset({"read", "operate", "judge"}))

_log = structlog.get_logger(__name__)
_seconds = Histogram("inpo_http_request_seconds", "Time to answer a request.", ["method", "route", "status"])


class Boundary:
    """ASGI middleware; see the module's docstring. Health and readiness need no key, everything else does.

    Without keys, requests must be addressed to this machine, and what changes something must not come from another
    site's page: strangers cannot ask through a browser.
    `scope["state"]["grant"]` tells the routes whose key it was.
    """

    def __init__(self, app: ASGIApp, *, keys: Keyring | None, max_body_bytes: int) -> None:
        self._app = app
        self._keys = keys
        self._max_body_bytes = max_body_bytes
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="json")

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
            method = scope["method"] if scope["method"] in METHODS else "other"  # names can be made up without end
            _seconds.labels(method, route, str(answer.status)).observe(time.monotonic() - started)

    async def _guarded(self, scope: Connection, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refused = self._refused(scope, headers)
        if refused is not None:
            await refused(scope, receive, send)
            return
        body = b""
        if scope["method"] not in SAFE_METHODS:
            try:
                body = await _read(receive, self._declared_size(headers), self._max_body_bytes)
            except _BodyRefusedError as error:
                await problem_response(error.problem, {"Connection": "close"})(scope, receive, send)
                return
        wrong = await self._json_fault(body) if body and _is_json(headers.get("content-type", "")) else None
        if wrong is not None:
            refusal = Problem(status=400, title="Invalid JSON", detail=f"The body is not valid JSON: {wrong}.")
            await problem_response(refusal)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _json_fault(self, body: bytes) -> str | None:
        if len(body) <= SMALL_BODY_BYTES:
            return json_fault(body)
        return await asyncio.get_running_loop().run_in_executor(self._checker, json_fault, body)

    def _refused(self, scope: Connection, headers: Headers) -> Response | None:
        """Why this caller gets no answer, None where he gets one."""
        stranger = self._stranger(scope, headers) if self._keys is None else None
        if stranger is not None:
            return stranger
        allowed = _OPEN_METHODS if scope["path"] in OPEN_PATHS else METHODS
        if scope["method"] not in allowed:
            return _wrong_method(allowed)
        needed = scope_of(scope["method"], scope["path"])
        grant = EVERYTHING if self._keys is None else self._keys.grant(headers.get("authorization", ""))
        if needed is not None and grant is None:
            return _unauthorized()
        if needed is not None and grant is not None and needed not in grant.scopes:
            return _forbidden(needed)
        scope.setdefault("state", {})["grant"] = grant
        return None

    @staticmethod
    def _stranger(scope: Connection, headers: Headers) -> Response | None:
        """Why a browser may have been made to ask by somebody else's page; None when nothing says so."""
        if not is_loopback(_host_name(headers.get("host", ""))):
            return _misdirected()
        if scope["method"] not in SAFE_METHODS and _is_from_another_site(headers):
            return _foreign()
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


def _wrong_method(allowed: frozenset[str]) -> Response:
    names = ", ".join(sorted(allowed))
    refusal = Problem(status=405, title="Method not allowed", detail=f"This path answers {names} only.")
    return problem_response(refusal, {"Allow": names})


def _is_from_another_site(headers: Headers) -> bool:
    """Whether a browser says that another site's page asks; another port of this machine is another site."""
    origin = headers.get("origin")
    own = origin is None or origin.partition("://")[2] == headers.get("host")
    return not own or headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _foreign() -> Response:
    detail = "Without a key this service changes nothing for pages of other sites; set INPO_API_KEY_FILE."
    return problem_response(Problem(status=403, title="Foreign origin", detail=detail))


class _BodyRefusedError(Exception):
    """The body is not read to its end."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(status=status, title=title, detail=detail, retryable=status == 408)


async def _read(receive: Receive, declared: int, limit: int) -> bytes:
    """The whole body; a client that left leaves an empty one. `_BodyRefusedError` when it is too large or too slow."""
    too_large = _BodyRefusedError(413, "Body too large", f"The body is larger than {limit} bytes.")
    if declared > limit:
        raise too_large
    chunks: list[bytes] = []
    size, began = 0, time.monotonic()
    try:
        while True:
            async with asyncio.timeout(began + BODY_GRACE_S + size / BODY_BYTES_PER_S - time.monotonic()):
                message = await receive()
            if message["type"] != "http.request":
                return b""
            chunk = cast(bytes, message.get("body", b""))
            size += len(chunk)
            if size > limit:
                raise too_large
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)
    except TimeoutError:
        detail = f"After {time.monotonic() - began:.0f} s only {size} bytes of the body had come."
        raise _BodyRefusedError(408, "Body too slow", detail) from None


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
