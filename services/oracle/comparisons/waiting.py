"""Waiting for comparisons without a thread each: of all who wait for one judge's, one looks at a time."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from services.oracle.comparisons.board import ComparisonBoard
from services.oracle.judges.pull import board_name
from shared.contracts.rest.judging import LeasedComparison, LeaseRequest

LOOK_S = 0.25
NUM_THREADS = 4


@dataclass(slots=True)
class _Line:
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class WaitingRoom:
    """Leases for any number of judges on one event loop."""

    def __init__(self, board: ComparisonBoard) -> None:
        self._board = board
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="comparisons")
        self._lines: dict[str, _Line] = {}

    async def lease(self, request: LeaseRequest, gone: Callable[[], Awaitable[bool]]) -> list[LeasedComparison]:
        """Open comparisons, looked for at once and then in turn until `wait_s` is over or the caller is `gone`."""
        ends = time.monotonic() + request.wait_s
        found = await self._look(request)
        if found or request.wait_s <= 0.0:
            return found
        async with self._turn(board_name(request.judge, request.judge_revision), ends) as came:
            while came and not found and time.monotonic() < ends and not await gone():
                await asyncio.sleep(min(LOOK_S, max(0.0, ends - time.monotonic())))
                found = await self._look(request)
        return found

    @asynccontextmanager
    async def _turn(self, place: str, ends: float) -> AsyncGenerator[bool]:
        """Whether the turn in a judge's line came in time. A line is forgotten by the last who leaves it."""
        line = self._lines.setdefault(place, _Line())
        line.length += 1
        came = False
        try:
            # Only standing in line is cut off: a look that is under way gives comparisons out.
            with suppress(TimeoutError):
                async with asyncio.timeout(ends - time.monotonic()):
                    came = await line.turn.acquire()
            yield came
        finally:
            if came:
                line.turn.release()
            line.length -= 1
            if not line.length:
                del self._lines[place]

    async def _look(self, request: LeaseRequest) -> list[LeasedComparison]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._board.lease, request)
