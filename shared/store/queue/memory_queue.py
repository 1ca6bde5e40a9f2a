"""The queue's twin in memory, on a clock that the caller moves: for simulations and unit tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shared.contracts.work import Attempt, Event, Kind, WorkItem
from shared.store.artifacts import layout
from shared.store.queue.protocol import MAX_TRIES, Claim, Depth, Wait, deferred, held_up, told, worth_telling


class ManualClock:
    """Seconds that pass only when told to."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """The time now."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


@dataclass(slots=True)
class _Entry:
    item: WorkItem
    due_s: float
    history: Attempt
    token: int = 0
    deliveries: int = 0
    owner: str | None = None
    leased_until_s: float = 0.0


@dataclass(slots=True)
class _State:
    """What all consumers share: the twin of one Redis."""

    entries: dict[str, _Entry] = field(default_factory=dict[str, _Entry])
    events: list[tuple[str, Event]] = field(default_factory=list[tuple[str, Event]])
    num_events: int = 0
    next_token: int = 0


class MemoryQueue:
    """See `Queue`. `as_consumer` gives another consumer's view of the same queue; nothing ever waits."""

    def __init__(self, clock: Callable[[], float], lease_s: float, *, consumer: str = "consumer") -> None:
        self._clock = clock
        self._lease_s = lease_s
        self._consumer = consumer
        self._state = _State()

    def as_consumer(self, consumer: str) -> "MemoryQueue":
        """The same queue, seen by another worker."""
        other = MemoryQueue(self._clock, self._lease_s, consumer=consumer)
        other._state = self._state
        return other

    def lose_everything(self) -> None:
        """FLUSHALL. Claims that workers hold are void; ids of entries and events still only grow."""
        self._state.entries.clear()
        self._state.events.clear()

    def expire_leases(self) -> None:
        """As if every worker had fallen silent for the length of a lease: what is in flight is delivered again."""
        for entry in self._state.entries.values():
            entry.leased_until_s = min(entry.leased_until_s, self._clock())

    def duplicate(self, identity: str) -> None:
        """Deliver an outstanding item once more, behind the back of whoever holds it; no try is counted."""
        entry = self._state.entries[identity]
        self._state.entries[identity] = self._fresh(entry.item, 0.0, entry.history)

    def submit(self, item: WorkItem) -> bool:
        """See `Queue.submit`."""
        if item.id in self._state.entries:
            return False
        self._state.entries[item.id] = self._fresh(item, 0.0, Attempt(number=1))
        return True

    def claim(self, kinds: Sequence[Kind], *, wait_s: float) -> Claim | None:
        """See `Queue.claim`."""
        del wait_s
        now = self._clock()
        free = [
            entry
            for entry in self._state.entries.values()
            if entry.item.kind in kinds and entry.due_s <= now and (entry.owner is None or entry.leased_until_s <= now)
        ]
        if not free:
            return None
        entry = min(free, key=lambda entry: (entry.owner is None, entry.token))
        entry.owner = self._consumer
        entry.deliveries += 1
        entry.leased_until_s = now + self._lease_s
        since = entry.history.waiting_since_s
        update = {
            "number": entry.history.number - 1 + entry.deliveries,
            "waited_s": 0.0 if since is None else now - since,
        }
        return Claim(entry.item, str(entry.token), entry.history.model_copy(update=update))

    def renew(self, claim: Claim) -> bool:
        """See `Queue.renew`."""
        entry = self._held(claim)
        if entry is None:
            return False
        entry.leased_until_s = self._clock() + self._lease_s
        return True

    def complete(self, claim: Claim, event: Event) -> bool:
        """See `Queue.complete`."""
        if self._held(claim) is None:
            return False
        del self._state.entries[claim.item.id]
        self.publish(event)
        return True

    def fail(self, claim: Claim, reason: str) -> Attempt:
        """See `Queue.fail`."""
        number = claim.attempt.number
        history = claim.attempt.model_copy(update={"reasons": [*claim.attempt.reasons, reason]})
        entry = self._held(claim)
        if entry is None:
            return history
        if number >= MAX_TRIES:
            entry.history = history.model_copy(update={"number": number + 1})
        else:
            self._return(claim, history, tries=number, delay_s=min(0.5 * 2**number, self._lease_s))
            self.publish(told("item_retried", claim, reason=reason, attempt=number))
        return history

    def defer(self, claim: Claim, delay_s: float, reason: str, wait: Wait | None = None) -> None:
        """See `Queue.defer`."""
        history = deferred(claim.attempt, reason, wait, self._clock())
        if self._return(claim, history, tries=claim.attempt.number - 1, delay_s=delay_s) and worth_telling(history):
            self.publish(told("item_deferred", claim, reason=reason, delay_s=delay_s, counted=wait is None))

    def release(self, claim: Claim) -> None:
        """See `Queue.release`."""
        self._return(claim, claim.attempt, tries=claim.attempt.number - 1, delay_s=0.0)

    def outstanding(self, run: str) -> set[str]:
        """See `Queue.outstanding`."""
        return {identity for identity in self._state.entries if identity.startswith(f"{layout.run(run)}/")}

    def drop(self, run: str) -> int:
        """See `Queue.drop`."""
        idle = [i for i in self.outstanding(run) if self._state.entries[i].owner is None]
        for identity in idle:
            del self._state.entries[identity]
        return len(idle)

    def publish(self, event: Event) -> None:
        """See `Queue.publish`."""
        self._state.num_events += 1
        self._state.events.append((str(self._state.num_events), event))

    def events(self, after: str, *, wait_s: float) -> list[tuple[str, Event]]:
        """See `Queue.events`."""
        del wait_s
        start = int(self.last_event() if after == "$" else after)
        return [(identity, event) for identity, event in self._state.events if int(identity) > start]

    def last_event(self) -> str:
        """See `Queue.last_event`."""
        return self._state.events[-1][0] if self._state.events else "0"

    def check(self) -> None:
        """See `Queue.check`."""

    def depths(self) -> dict[Kind, Depth]:
        """See `Queue.depths`."""
        kinds: tuple[Kind, ...] = ("generate", "judge", "train")
        return {kind: self._depth([e for e in self._state.entries.values() if e.item.kind == kind]) for kind in kinds}

    def waiting(self, run: str) -> list[Attempt]:
        """See `Queue.waiting`."""
        return held_up(self._state.entries[identity].history for identity in self.outstanding(run))

    def items(self, kind: Kind) -> list[tuple[WorkItem, Attempt]]:
        """See `Queue.items`."""
        entries = [entry for entry in self._state.entries.values() if entry.item.kind == kind]
        return [(entry.item, entry.history) for entry in sorted(entries, key=lambda entry: entry.item.id)]

    def _depth(self, entries: Sequence[_Entry]) -> Depth:
        in_flight = sum(entry.owner is not None for entry in entries)
        delayed = sum(entry.owner is None and entry.due_s > self._clock() for entry in entries)
        return Depth(len(entries) - in_flight - delayed, in_flight, delayed, 0.0)

    def _held(self, claim: Claim) -> _Entry | None:
        entry = self._state.entries.get(claim.item.id)
        mine = entry is not None and entry.owner == self._consumer and str(entry.token) == claim.entry
        return entry if mine else None

    def _return(self, claim: Claim, history: Attempt, *, tries: int, delay_s: float) -> bool:
        if self._held(claim) is None:
            return False
        stored = history.model_copy(update={"number": tries + 1})
        self._state.entries[claim.item.id] = self._fresh(claim.item, self._clock() + delay_s, stored)
        return True

    def _fresh(self, item: WorkItem, due_s: float, history: Attempt) -> _Entry:
        self._state.next_token += 1
        return _Entry(item, due_s, history, self._state.next_token)
