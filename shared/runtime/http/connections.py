"""Connections that say nothing, or too slowly, do not keep out those that ask.

What waits for a request is bounded in time and gives way first; what is being answered is never cut off for others.
"""

import asyncio
import resource
from functools import partial
from typing import Any, cast

import h11
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from shared.contracts.rest.problems import Problem
from shared.runtime.http.access import OPEN_PATHS
from shared.runtime.http.problems import problem_response

# From the first byte, or the connection's beginning, to the end of a request's head; also for a refused body to end.
HEAD_S = 10.0
IDLE_S = 5
# What a client may still send of a body that nobody reads.
UNREAD_BYTES = 2**20
# A client that takes nothing of its answer for so long has gone.
STALLED_S = 60.0
# Connections beyond the limit, for health and readiness only.
RESERVE = 32
# Its request may be on the way: a connection so young does not give way while there is a reserve.
YOUNG_S = 0.5
# Accepted at once, before any of them can be counted.
BACKLOG = 256
# Files, Redis, judges: whatever a process opens beside its clients' connections.
OTHER_FILES = 512


class BoundedProtocol(H11Protocol):
    """A connection of uvicorn's that ends when it says nothing in time, with `limit_concurrency` counting connections.

    One too many replaces whichever waits longest for its request. Where all are being answered, `RESERVE` more are
    answered on the open paths and told 503 on others.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_connections = self.limit_concurrency
        self.limit_concurrency = None  # as uvicorn means it, it counts the requests, too, and health among them
        self._waiting_since_s: float = self.loop.time()
        self._num_unread = 0
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def _asked(self) -> bool:
        """Whether a first request has come; uvicorn's type for `cycle` leaves out that it may be None."""
        return cast(RequestResponseCycle | None, self.cycle) is not None

    @property
    def waits(self) -> bool:
        """Whether no request of this connection is being answered."""
        return not self._asked or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client came."""
        super().connection_made(transport)
        self._look()
        excess = len(self.connections) - self._max_connections if self._max_connections is not None else 0
        if excess > 0 and not self._take_a_place(YOUNG_S if excess <= RESERVE else 0.0):
            self.app = partial(_open_paths_only, self.app)
            if excess > RESERVE:
                self.end()

    def data_received(self, data: bytes) -> None:
        """A client sent something."""
        if self.waits:
            self._num_unread += len(data)
            if self._num_unread > UNREAD_BYTES:
                self.end()
                return
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """An answer has been given; the next request may be in the buffer already."""
        self._waiting_since_s = self.loop.time()
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, self.end)

    def resume_writing(self) -> None:
        """It takes it again."""
        super().resume_writing()
        self._stalled = _cancelled(self._stalled)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        super().connection_lost(exc)
        self._late = _cancelled(self._late)
        self._stalled = _cancelled(self._stalled)

    def end(self) -> None:
        """End the connection without another word; it counts no longer."""
        self.connections.discard(self)
        self.transport.abort()

    def _look(self) -> None:
        """Time the head that is expected, and the body that nobody reads; a client between two requests is idle."""
        begun = self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
        if not self.waits:
            self._num_unread = 0
            self._late = _cancelled(self._late)
        elif self._asked and not begun:
            self._late = _cancelled(self._late)
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_S, self.end)

    def _take_a_place(self, at_least_s: float) -> bool:
        """That of the connection which has waited longest; False when none has for so long."""
        others = cast(set[BoundedProtocol], self.connections) - {self}
        longest = min((one for one in others if one.waits), key=lambda one: one._waiting_since_s, default=None)
        if longest is None or self.loop.time() - longest._waiting_since_s < at_least_s:
            return False
        longest.end()
        return True


def bounded(max_connections: int) -> int:
    """The limit, and open files enough for it; less where the system does not allow as many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + RESERVE + BACKLOG + OTHER_FILES
    granted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < granted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, most))
    return max(1, max_connections - (wanted - granted))


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


async def _open_paths_only(app: ASGIApp, scope: Connection, receive: Receive, send: Send) -> None:
    if scope["path"] in OPEN_PATHS:
        await app(scope, receive, send)
        return
    problem = Problem(
        status=503, title="Busy", detail="All connections are being answered; ask again later.", retryable=True
    )
    await problem_response(problem, {"Retry-After": "5", "Connection": "close"})(scope, receive, send)
