"""Streams share what one thread reads: nobody misses an event, and a lost Redis ends them all."""

import asyncio
import threading

from services.controller.api.feed import KEPT, EventFeed, Reading
from shared.contracts.work import Event
from shared.store.queue.memory_queue import ManualClock, MemoryQueue
from shared.store.queue.protocol import QueueUnavailableError


class FollowedQueue(MemoryQueue):
    """Whoever follows it waits until something is published, or the connection is lost."""

    def __init__(self) -> None:
        super().__init__(ManualClock(), lease_s=30.0)
        self.lost = threading.Event()

    def events(self, after: str, *, wait_s: float) -> list[tuple[str, Event]]:
        if self.lost.wait(0.01 if wait_s else 0.0):
            raise QueueUnavailableError("connection refused")
        return super().events(after, wait_s=wait_s)


def happened(queue: MemoryQueue, num: int) -> None:
    for number in range(num):
        queue.publish(Event(type="item_done", run="run", data={"number": number}))


async def read(feed: EventFeed, reading: Reading, cursor: str, num: int) -> list[int]:
    """The ids of the next events behind the cursor."""
    seen: list[int] = []
    while len(seen) < num:
        cursor, found = await feed.behind(reading, cursor)
        seen += [int(identity) for identity, _ in found]
        if not found:
            await reading.news(10.0)
    return seen


def test_who_is_behind_what_is_kept_catches_up_and_then_goes_on_with_the_others() -> None:
    """Three events before anybody listens, and more than are kept while two do: from 0 and from 3 on."""
    queue = FollowedQueue()
    feed = EventFeed(queue)
    num = KEPT + 10
    happened(queue, 3)

    async def scene() -> None:
        async with feed.listening() as late, feed.listening() as early:
            assert late is early
            readers = [asyncio.create_task(read(feed, late, cursor, num)) for cursor in ("0", "3")]
            happened(queue, num)
            first, second = await asyncio.gather(*readers)
            assert first[:num] == list(range(1, num + 1))
            assert second == list(range(4, num + 4))
            assert late.behind("5") is None, "no longer kept in memory"
            assert (await feed.behind(late, "5"))[1][0][0] == "6"

    asyncio.run(scene())


def test_a_lost_redis_ends_the_reading_and_the_next_who_listens_begins_another() -> None:
    queue = FollowedQueue()
    feed = EventFeed(queue)

    async def scene() -> None:
        async with feed.listening() as reading:
            queue.lost.set()
            while not reading.over:
                await reading.news(10.0)
        queue.lost.clear()
        async with feed.listening() as another:
            assert another is not reading
            assert not another.over

    asyncio.run(scene())
