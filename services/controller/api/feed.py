"""The live events that all streams of this process read: one thread follows Redis, however many clients listen."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog

from shared.contracts.work import Event
from shared.store.queue.protocol import Queue, QueueUnavailableError

READ_S = 1.0
KEPT = 1000
# One follows, the others look up what clients missed.
NUM_THREADS = 3

Events = list[tuple[str, Event]]
_Answer = TypeVar("_Answer")
_log = structlog.get_logger(__name__)


def position(identity: str) -> tuple[int, int]:
    """Where an event stands in the stream: ids are numbers, or pairs of them."""
    first, _, second = identity.partition("-")
    return int(first), int(second or 0)


class Reading:
    """The newest events, kept for all who listen. `over` when Redis was lost: what comes later is another reading."""

    def __init__(self, newest: str) -> None:
        self.over = False
        self.num_listeners = 0
        self.newest = newest
        self._behind = newest
        self._kept: deque[tuple[str, Event]] = deque()
        self._news = asyncio.Event()

    def add(self, found: Events) -> None:
        """Events behind the newest one; everybody who waits is woken."""
        self._kept.extend(found)
        self.newest = found[-1][0] if found else self.newest
        while len(self._kept) > KEPT:
            self._behind, _ = self._kept.popleft()
        self._wake()

    def end(self) -> None:
        """Nothing will be added any more."""
        self.over = True
        self._wake()

    def behind(self, cursor: str) -> Events | None:
        """Kept events behind an id; None when not all that followed it are kept here."""
        place = position(cursor)
        if place < position(self._behind):
            return None
        return [(identity, event) for identity, event in self._kept if position(identity) > place]

    async def news(self, wait_s: float) -> None:
        """Return when something was added, the reading is over, or the time is."""
        news = self._news
        if self.over:
            return
        try:
            async with asyncio.timeout(wait_s):
                await news.wait()
        except TimeoutError:
            return

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class EventFeed:
    """Events for any number of streams on one event loop. `queue` is a connection of its own for long reads."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="events")
        self._reading: Reading | None = None
        self._follower: asyncio.Task[None] | None = None

    async def ask(self, question: Callable[[Queue], _Answer]) -> _Answer:
        """What the queue answers, in a thread of the feed's own. `QueueUnavailableError` as it raises it."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, question, self._queue)

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[Reading]:
        """The reading that goes on; Redis is followed while anybody listens."""
        if self._reading is None or self._reading.over:
            newest = await self.ask(lambda queue: queue.last_event())
            if self._reading is None or self._reading.over:  # somebody else may have been faster
                self._reading = Reading(newest)
                self._follower = asyncio.create_task(self._follow(self._reading))
        reading = self._reading
        reading.num_listeners += 1
        try:
            yield reading
        finally:
            reading.num_listeners -= 1

    async def behind(self, reading: Reading, cursor: str) -> tuple[str, Events]:
        """Events behind an id, and where to go on. Empty-handed only when the next news are still to come."""
        found = reading.behind(cursor)
        while found is None:
            newest = reading.newest
            found = await self.ask(lambda queue, after=cursor: queue.events(after, wait_s=0.0))
            if not found:
                cursor = newest
                found = reading.behind(cursor)
        return (found[-1][0] if found else cursor), found

    async def _follow(self, reading: Reading) -> None:
        try:
            while reading.num_listeners:
                reading.add(await self.ask(lambda queue: queue.events(reading.newest, wait_s=READ_S)))
        except QueueUnavailableError as error:
            _log.warning("events_interrupted", error=str(error), next="clients come back with Last-Event-ID")
        finally:
            reading.end()
