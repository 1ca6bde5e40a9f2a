"""Slow routes do not keep the others waiting: each lane has as many requests at work as it may, the rest wait for it.

A request that waits holds no thread. The server's pool is as much larger as its lanes are wide, so that whatever is in
no lane finds the threads that it would find without them.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import anyio.to_thread
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from shared.contracts.rest.problems import Problem
from shared.runtime.http.problems import ProblemError, problem_response

MAX_WAITING = 256
_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Lane:
    """Requests whose `METHOD /path` the pattern matches whole; `num` of them are worked on at once."""

    pattern: str
    num: int


class _Traffic:
    def __init__(self, lane: Lane) -> None:
        self.matches = re.compile(lane.pattern).fullmatch
        self.turns = asyncio.Semaphore(lane.num)
        self.num_waiting = 0


class Lanes:
    """ASGI middleware behind the boundary. A request leaves its lane when its answer begins."""

    def __init__(self, app: ASGIApp, *, lanes: Sequence[Lane]) -> None:
        self._app = app
        self._num_threads = sum(lane.num for lane in lanes)
        self._traffic = [_Traffic(lane) for lane in lanes]

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """One request, or the server's start."""
        if scope["type"] == "lifespan":
            anyio.to_thread.current_default_thread_limiter().total_tokens += self._num_threads
        traffic = self._lane_of(scope) if scope["type"] == "http" else None
        if traffic is None:
            await self._app(scope, receive, send)
        elif traffic.num_waiting >= MAX_WAITING:
            await _busy()(scope, receive, send)
        else:
            await self._in_turn(traffic, scope, receive, send)

    def _lane_of(self, scope: Connection) -> _Traffic | None:
        request = f"{scope['method']} {scope['path']}"
        return next((traffic for traffic in self._traffic if traffic.matches(request)), None)

    async def _in_turn(self, traffic: _Traffic, scope: Connection, receive: Receive, send: Send) -> None:
        traffic.num_waiting += 1
        try:
            await traffic.turns.acquire()
        finally:
            traffic.num_waiting -= 1
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                traffic.turns.release()

        async def answer(message: Message) -> None:
            leave()  # a client that reads slowly keeps nobody waiting
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            leave()


class Places:
    """How many answers without an end, or with a late one, a key may hold open at once."""

    def __init__(self, num: int, what: str) -> None:
        self._num = num
        self._what = what
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, caller: str) -> Generator[None]:
        """A place until the block is left; `ProblemError` (429) when the caller has all of his. On the loop only."""
        if self._taken[caller] >= self._num:
            detail = f"this key holds {self._num} {self._what} open already (INPO_MAX_STREAMS); close one, or wait"
            headers = {"Retry-After": str(_RETRY_AFTER_S)}
            raise ProblemError(429, "Too many at once", detail, retryable=True, headers=headers)
        self._taken[caller] += 1
        try:
            yield
        finally:
            self._taken[caller] -= 1
            if not self._taken[caller]:
                del self._taken[caller]


def _busy() -> Response:
    detail = f"{MAX_WAITING} requests of this kind wait already; ask again later."
    problem = Problem(status=503, title="Busy", detail=detail, retryable=True)
    return problem_response(problem, {"Retry-After": str(_RETRY_AFTER_S)})
