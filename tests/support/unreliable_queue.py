"""A queue whose Redis goes away for a while."""

from collections.abc import Sequence

from shared.contracts.work import Attempt, Event, Kind, WorkItem
from shared.store.queue.memory_queue import ManualClock, MemoryQueue
from shared.store.queue.protocol import Claim, QueueUnavailableError


class UnreliableQueue(MemoryQueue):
    """`MemoryQueue`, except that the next `outage` calls by a worker fail."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.outage = 0
        self.num_refused = 0
        super().__init__(self.clock, lease_s=30.0, consumer="worker")

    def claim(self, kinds: Sequence[Kind], *, wait_s: float) -> Claim | None:
        self._reach()
        return super().claim(kinds, wait_s=wait_s)

    def renew(self, claim: Claim) -> bool:
        self._reach()
        return super().renew(claim)

    def complete(self, claim: Claim, event: Event) -> bool:
        self._reach()
        return super().complete(claim, event)

    def fail(self, claim: Claim, reason: str) -> Attempt:
        self._reach()
        return super().fail(claim, reason)

    def release(self, claim: Claim) -> None:
        self._reach()
        super().release(claim)

    def take(self, item: WorkItem, *, after_s: float = 0.0) -> Claim:
        """Ask for an item and claim it as the worker."""
        self.submit(item)
        return self.take_again(after_s)

    def take_again(self, after_s: float = 60.0) -> Claim:
        """The next claim, when pauses are over."""
        self.clock.advance(after_s)
        claim = super().claim(["generate", "judge", "train"], wait_s=0.0)
        assert claim is not None, "nothing to claim"
        return claim

    def _reach(self) -> None:
        if self.outage > 0:
            self.outage -= 1
            self.num_refused += 1
            raise QueueUnavailableError("connection refused")
