"""`Idempotency-Key` on POST: the same key and body are answered once, and the same way for ever after.

Answers below 500 are kept. Whoever gets a 5xx, or no answer at all, may send the request again with its key.
"""

import asyncio
import hashlib
import json
from contextlib import ExitStack, suppress

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.contracts.rest.problems import FieldError, Problem
from shared.runtime.http.problems import problem_response
from shared.store.artifacts.requests import (
    DifferentRequestError,
    InHand,
    RequestInFlightError,
    RequestLedger,
    StoredAnswer,
)

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
MAX_KEY_CHARS = 255
_RETRY_AFTER_S = 2


class Idempotency:
    """ASGI middleware behind the boundary, which has checked the body. POSTs without the header pass it by."""

    def __init__(self, app: ASGIApp, *, ledger: RequestLedger) -> None:
        self._app = app
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        keys = Headers(scope=scope).getlist(HEADER) if scope["type"] == "http" and scope["method"] == "POST" else []
        if not keys:
            await self._app(scope, receive, send)
            return
        if len(keys) > 1 or not is_key(keys[0]):
            await _bad_key()(scope, receive, send)
            return
        message = await receive()
        fingerprint = await asyncio.to_thread(_fingerprint, scope, message.get("body", b""))
        route = f"{scope['method']} {scope['path']}"
        with ExitStack() as stack:
            # Entering and leaving touch the disk; neither may hold up the event loop.
            opened = self._ledger.open(route, keys[0], fingerprint)
            try:
                found = await asyncio.to_thread(stack.enter_context, opened)
            except DifferentRequestError:
                await _other_body()(scope, receive, send)
                return
            except RequestInFlightError:
                await _in_flight()(scope, receive, send)
                return
            if isinstance(found, StoredAnswer):
                await _replay(found, {REPLAYED: "true"})(scope, receive, send)
                return
            await self._work(found, message, scope, receive, send)
            await asyncio.to_thread(stack.close)

    async def _work(self, request: InHand, message: Message, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["request"] = request.identity
        delivered = [message]

        async def replayed() -> Message:
            return delivered.pop() if delivered else await receive()

        answer = _Captured()
        await self._app(scope, replayed, answer)
        if answer.status >= 500:
            await answer.response()(scope, receive, send)
            return
        stored = await asyncio.to_thread(request.settle, answer.stored())
        await _replay(stored, {})(scope, receive, send)


class _Captured:
    """`send` that keeps the answer."""

    def __init__(self) -> None:
        self.status = 500
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", [])]
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")

    def stored(self) -> StoredAnswer:
        """As it is kept; the length follows from the body."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._headers]
        kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
        return StoredAnswer(status=self.status, headers=kept, body=self._body.decode())

    def response(self) -> Response:
        """As it is sent when it is not kept."""
        return _replay(self.stored(), {})


def is_key(key: str) -> bool:
    """Whether this is 1 to 255 characters of printable ASCII."""
    return 0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()


def _replay(answer: StoredAnswer, more: dict[str, str]) -> Response:
    response = Response(answer.body.encode(), answer.status)
    for name, value in [*answer.headers, *more.items()]:
        response.headers[name] = value
    return response


def _fingerprint(scope: Scope, body: bytes) -> str:
    """Of what is asked: JSON counts by its value, so that a client may write the same body in another order."""
    with suppress(ValueError, RecursionError):  # what is not JSON counts byte by byte
        body = json.dumps(json.loads(body), sort_keys=True).encode()
    return hashlib.sha256(scope.get("query_string", b"") + b"\n" + body).hexdigest()


def _bad_key() -> Response:
    message = f"one value of 1 to {MAX_KEY_CHARS} printable ASCII characters is expected"
    wrong = FieldError(field=HEADER, message=message)
    return problem_response(Problem(status=422, title="Invalid request", detail=f"{HEADER}: {message}", errors=[wrong]))


def _other_body() -> Response:
    message = "this key came with another body before; a new request needs a new key"
    wrong = FieldError(field=HEADER, message=message)
    return problem_response(Problem(status=422, title="Key used before", detail=f"{HEADER}: {message}", errors=[wrong]))


def _in_flight() -> Response:
    detail = "A request with this Idempotency-Key is being worked on; ask again for its answer."
    problem = Problem(status=409, title="In flight", detail=detail, retryable=True)
    return problem_response(problem, {"Retry-After": str(_RETRY_AFTER_S)})
