"""The queue as its users see it. `RedisQueue` is the real one, `MemoryQueue` its twin for simulations.

Work is at-least-once; effects are exactly-once because artifacts are created exclusively. Losing the queue loses
nothing: the reconciler asks again for whatever artifact is missing, under the same ids.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.contracts.work import Attempt, Event, Kind, WorkItem

MAX_TRIES = 3


class QueueUnavailableError(ConnectionError):
    """Redis cannot be reached now, or refuses. Callers wait and try again; nothing is lost."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An item leased to this consumer until `renew` stops."""

    item: WorkItem
    entry: str
    attempt: Attempt

    @property
    def exhausted(self) -> bool:
        """The item has been tried `MAX_TRIES` times already: it becomes a dead letter instead of running again."""
        return self.attempt.number > MAX_TRIES


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an item is handed back uncounted: what is unavailable, and how far the work had come (it may only grow)."""

    progress: int = 0


def deferred(attempt: Attempt, reason: str, wait: Wait | None, now_s: float) -> Attempt:
    """The history of an item that is handed back for later; without `wait` as one more counted deferral.

    Waits are counted, and timed, from the last time that the work got any further.
    """
    if wait is None:
        unbroken = {"waits": 0, "waiting_for": None, "waiting_since_s": None, "waited_s": 0.0}
        return attempt.model_copy(update={**unbroken, "deferrals": attempt.deferrals + 1})
    goes_on = attempt.waiting_since_s is not None and wait.progress <= attempt.progress
    return attempt.model_copy(
        update={
            "waits": attempt.waits + 1 if goes_on else 1,
            "waiting_for": reason,
            "waiting_since_s": attempt.waiting_since_s if goes_on else now_s,
            "progress": max(wait.progress, attempt.progress),
        }
    )


def worth_telling(history: Attempt) -> bool:
    """Whether this deferral is an event: of a long row of waits only the 1st, 2nd, 4th, 8th … are."""
    return history.waits & (history.waits - 1) == 0


def held_up(histories: Iterable[Attempt]) -> list[Attempt]:
    """Those that wait for something outside, the longest wait first; then those that a try has failed."""
    waiting = [history for history in histories if history.waiting_since_s is not None or history.reasons]
    return sorted(waiting, key=lambda history: math.inf if history.waiting_since_s is None else history.waiting_since_s)


def told(event_type: str, claim: Claim, **data: object) -> Event:
    """What the queue publishes about an item."""
    return Event(type=event_type, run=claim.item.run, data={"item": claim.item.id, **data})


@dataclass(frozen=True, slots=True)
class Depth:
    """One stream's state, for people and metrics."""

    waiting: int
    in_flight: int
    delayed: int
    oldest_s: float


class Queue(Protocol):
    """What every queue promises. Every method may raise `QueueUnavailableError`."""

    def submit(self, item: WorkItem) -> bool:
        """Ask for work. False, with nothing changed, while an item of the same id is outstanding."""
        ...

    def claim(self, kinds: Sequence[Kind], *, wait_s: float) -> Claim | None:
        """Lease one item of these kinds, first those whose lease ran out; None after waiting in vain."""
        ...

    def renew(self, claim: Claim) -> bool:
        """Keep the lease. False when it belongs to somebody else by now, who cannot be stolen from."""
        ...

    def complete(self, claim: Claim, event: Event) -> bool:
        """The work's artifact is durable: forget the item and publish the event. False when the lease was lost."""
        ...

    def fail(self, claim: Claim, reason: str) -> Attempt:
        """Count a failed try and hand the item back after a pause; returns the history including this try.

        At `MAX_TRIES` failures the item is not handed back but stays leased, so that the caller can write its dead
        letter and then `complete` it.
        """
        ...

    def defer(self, claim: Claim, delay_s: float, reason: str, wait: Wait | None = None) -> None:
        """Hand the item back for later without counting a try: something outside failed on it.

        That counts as one of its deferrals; with `wait` something outside was unavailable, which counts as nothing.
        """
        ...

    def release(self, claim: Claim) -> None:
        """Hand the item back at once without counting a try: this worker is shutting down."""
        ...

    def outstanding(self, run: str) -> set[str]:
        """Ids of the run's items that were submitted and not completed."""
        ...

    def drop(self, run: str) -> int:
        """Forget all items of a run that are not in flight; how many."""
        ...

    def publish(self, event: Event) -> None:
        """Append to the live event stream."""
        ...

    def events(self, after: str, *, wait_s: float) -> list[tuple[str, Event]]:
        """Events behind the id `after` ("0": all that are kept, "$": new ones), waiting for the first.

        "$" stands for the newest event at the moment of the call, so what happens between two calls with "$" is
        missed: a caller that goes on reading starts from `last_event()`. ValueError when `after` is not an id.
        """
        ...

    def last_event(self) -> str:
        """Id of the newest event, "0" when there is none: whoever reads on from here misses nothing."""
        ...

    def check(self) -> None:
        """Nothing, where work could be asked for and taken at this moment; else the error says why not."""
        ...

    def depths(self) -> dict[Kind, Depth]:
        """State of every stream."""
        ...

    def waiting(self, run: str) -> list[Attempt]:
        """Histories of the run's items that are held up: see `held_up`."""
        ...

    def items(self, kind: Kind) -> list[tuple[WorkItem, Attempt]]:
        """Outstanding items of a kind with their history, oldest first."""
        ...
