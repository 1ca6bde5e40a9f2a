# redis-py leaves some parameters of its commands without a type.
# pyright: reportUnknownMemberType=false
"""Both queues behind one interface, so that one suite proves that the twin keeps the real one's promises."""

from typing import Protocol

import redis

from shared.contracts.work import Kind
from shared.store.queue.memory_queue import ManualClock, MemoryQueue
from shared.store.queue.protocol import Claim, Queue
from shared.store.queue.redis_queue import KINDS, RedisQueue
from tests.support.waiting import wait_until

LEASE_S = 30.0


class QueueBench(Protocol):
    """A queue, as several consumers see it."""

    def consumer(self, name: str) -> Queue:
        """The queue seen by a worker that has just started."""
        ...

    def expire_leases(self) -> None:
        """As if every worker had been silent for longer than its lease."""
        ...

    def lose_everything(self) -> None:
        """FLUSHALL."""
        ...

    def let_time_pass(self) -> None:
        """A little."""
        ...


class MemoryBench:
    """The twin."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.queue = MemoryQueue(self.clock, LEASE_S)

    def consumer(self, name: str) -> Queue:
        return self.queue.as_consumer(name)

    def expire_leases(self) -> None:
        self.queue.expire_leases()

    def lose_everything(self) -> None:
        self.queue.lose_everything()

    def let_time_pass(self) -> None:
        self.clock.advance(0.1)


class RedisBench:
    """The real one. Leases are made old in Redis itself, so no test waits for one."""

    def __init__(self, url: str, client: redis.Redis) -> None:
        self._url = url
        self._client = client

    def consumer(self, name: str) -> Queue:
        return RedisQueue(self._url, consumer=name, lease_s=LEASE_S)

    def expire_leases(self) -> None:
        for kind in KINDS:
            age_leases(self._client, kind)

    def lose_everything(self) -> None:
        self._client.flushall()

    def let_time_pass(self) -> None:
        """It does by itself."""


def age_leases(client: redis.Redis, kind: Kind, *, num: int | None = None) -> None:
    """Make the newest `num` leases of a kind (by default all) an hour old, leaving owners and counts as they are."""
    stream = f"inpo:{kind}:stream"
    if not client.exists(stream):
        return
    held = client.xpending_range(stream, "workers", "-", "+", 1000)
    assert isinstance(held, list)
    for entry in held[-num:] if num else held:
        arguments = (entry["consumer"], 0, entry["message_id"], "IDLE", 3_600_000, "JUSTID")
        client.execute_command("XCLAIM", stream, "workers", *arguments)


def claim_at_last(bench: QueueBench, queue: Queue, kind: Kind = "generate") -> Claim:
    """A claim of something that was delayed."""
    claims: list[Claim] = []

    def claimed() -> bool:
        bench.let_time_pass()
        claim = queue.claim([kind], wait_s=0.0)
        claims.extend([claim] if claim is not None else [])
        return claim is not None

    wait_until(claimed, 10, f"an item of kind {kind}")
    return claims[0]


def claim_now(queue: Queue, kind: Kind = "generate") -> Claim:
    """A claim that must be there."""
    claim = queue.claim([kind], wait_s=0.0)
    assert claim is not None, f"nothing to claim of kind {kind}"
    return claim
