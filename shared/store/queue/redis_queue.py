# redis-py types its replies as unions of sync and async; they are narrowed here, at the only door to Redis.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The queue on Redis Streams: see `shared.store.queue.protocol.Queue` for what it promises.

One stream and one consumer group a kind of work. Beside the stream: `items` (outstanding ids with their payload),
`history` (counted tries, deferrals, reasons), `delayed` (ids due later, by Redis' clock). Works from Redis 6.2 on.
"""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast, get_args

import structlog
from redis.exceptions import ResponseError

from shared.contracts.work import Attempt, Event, Kind, WorkItem
from shared.store.artifacts import layout
from shared.store.queue import scripts
from shared.store.queue.entries import Fields, Foreign, event_of, history_of, item_of, payload_of, run_of
from shared.store.queue.protocol import (
    MAX_TRIES,
    Claim,
    Depth,
    Wait,
    deferred,
    held_up,
    told,
    worth_telling,
)
from shared.store.redis_client import available, connect

log = structlog.get_logger(__name__)

KINDS: tuple[Kind, ...] = get_args(Kind)
NAMESPACE = "inpo"
GROUP = "workers"
BLOCK_S = 1.0
EVENTS_KEPT = 10_000
OTHER_RELEASE_PAUSE_S = 5.0


class RedisQueue:
    """See `Queue`. Threads may share one; `consumer` must be unique among live processes.

    All keys begin with `namespace`: systems of different namespaces share a database without seeing one another's work.
    """

    def __init__(self, url: str, *, consumer: str, lease_s: float, namespace: str = NAMESPACE) -> None:
        self._consumer = consumer
        self._namespace = namespace
        self._events = f"{namespace}:events"
        self._lease_s = lease_s
        self._swept: dict[Kind, float] = {}
        self._redis: Any = connect(url)
        self._group = self._redis.register_script(scripts.GROUP)
        self._submit = self._redis.register_script(scripts.SUBMIT)
        self._renew = self._redis.register_script(scripts.RENEW)
        self._complete = self._redis.register_script(scripts.COMPLETE)
        self._hand_back = self._redis.register_script(scripts.HAND_BACK)
        self._promote = self._redis.register_script(scripts.PROMOTE)
        self._outstanding = self._redis.register_script(scripts.OUTSTANDING)
        self._drop = self._redis.register_script(scripts.DROP)

    def submit(self, item: WorkItem) -> bool:
        """See `Queue.submit`."""
        keys = [self._key(item.kind, "items"), self._key(item.kind, "stream")]
        with available():
            return bool(self._submit(keys=keys, args=[item.id, payload_of(item)]))

    def claim(self, kinds: Sequence[Kind], *, wait_s: float) -> Claim | None:
        """See `Queue.claim`."""
        deadline = time.monotonic() + wait_s
        with available():
            while True:
                for kind in kinds:
                    self._promote(
                        keys=[self._key(kind, "delayed"), self._key(kind, "stream"), self._key(kind, "items")]
                    )
                remaining = deadline - time.monotonic()
                # One stream after the other: COUNT holds for each stream of a read, not for all together.
                block_s = min(remaining, BLOCK_S, self._lease_s / 4) / len(kinds)
                for look in (self._reclaim, self._read, partial(self._read, block_s=block_s)):
                    for kind in kinds:
                        if (claim := look(kind)) is not None:
                            return claim
                if remaining <= 0:
                    return None

    def renew(self, claim: Claim) -> bool:
        """See `Queue.renew`."""
        with available():
            keys = [self._key(claim.item.kind, "stream")]
            return bool(self._with_group(claim.item.kind, lambda: self._renew(keys=keys, args=self._held(claim))))

    def complete(self, claim: Claim, event: Event) -> bool:
        """See `Queue.complete`."""
        kind = claim.item.kind
        keys = [self._key(kind, "stream"), self._key(kind, "items"), self._key(kind, "history"), self._events]
        args = [*self._held(claim), claim.item.id, event.model_dump_json()]
        with available():
            return bool(self._with_group(kind, lambda: self._complete(keys=keys, args=args)))

    def fail(self, claim: Claim, reason: str) -> Attempt:
        """See `Queue.fail`. The pause before the next try doubles with each."""
        number = claim.attempt.number
        history = claim.attempt.model_copy(update={"reasons": [*claim.attempt.reasons, reason]})
        pause_s = min(0.5 * 2**number, self._lease_s) * random.uniform(0.5, 1.0)  # noqa: S311  (jitter)
        keep = number >= MAX_TRIES
        if self._return(claim, history, tries=number, delay_s=pause_s, keep=keep) and not keep:
            self.publish(told("item_retried", claim, reason=reason, attempt=number))
        return history

    def defer(self, claim: Claim, delay_s: float, reason: str, wait: Wait | None = None) -> None:
        """See `Queue.defer`."""
        with available():
            history = deferred(claim.attempt, reason, wait, self._now_s())
        if self._return(claim, history, tries=claim.attempt.number - 1, delay_s=delay_s) and worth_telling(history):
            self.publish(told("item_deferred", claim, reason=reason, delay_s=delay_s, counted=wait is None))

    def release(self, claim: Claim) -> None:
        """See `Queue.release`."""
        self._return(claim, claim.attempt, tries=claim.attempt.number - 1, delay_s=0.0)

    def outstanding(self, run: str) -> set[str]:
        """See `Queue.outstanding`."""
        prefix = f"{layout.run(run)}/"
        with available():
            return {
                identity
                for kind in KINDS
                for identity in self._outstanding(
                    keys=[self._key(kind, name) for name in ("items", "stream", "delayed")]
                )
                if identity.startswith(prefix)
            }

    def drop(self, run: str) -> int:
        """See `Queue.drop`."""
        with available():
            return sum(self._with_group(kind, lambda kind=kind: self._drop_kind(kind, run)) for kind in KINDS)

    def publish(self, event: Event) -> None:
        """See `Queue.publish`."""
        with available():
            self._redis.xadd(self._events, {"event": event.model_dump_json()}, maxlen=EVENTS_KEPT, approximate=True)

    def last_event(self) -> str:
        """See `Queue.last_event`."""
        with available():
            newest = self._redis.xrevrange(self._events, count=1)
            return newest[0][0] if newest else "0"

    def events(self, after: str, *, wait_s: float) -> list[tuple[str, Event]]:
        """See `Queue.events`."""
        deadline = time.monotonic() + wait_s
        after = self.last_event() if after == "$" else _event_id(after)
        while True:
            block_s = min(deadline - time.monotonic(), BLOCK_S)
            block = int(block_s * 1000) if block_s >= 0.001 else None  # BLOCK 0 would wait for ever
            with available():
                reply = self._redis.xread({self._events: after}, count=1000, block=block)
            rows = [row for _, rows in reply or [] for row in rows]
            found = [
                (identity, event) for identity, fields in rows if (event := event_of(identity, fields)) is not None
            ]
            if found or time.monotonic() >= deadline:
                return found
            after = rows[-1][0] if rows else after

    def check(self) -> None:
        """See `Queue.check`. Writes: a server that only refuses to write answers every question."""
        with available():
            self._redis.set(f"{self._namespace}:checked", self._consumer, ex=60)

    def depths(self) -> dict[Kind, Depth]:
        """See `Queue.depths`."""
        with available():
            return {kind: self._with_group(kind, lambda kind=kind: self._depth(kind)) for kind in KINDS}

    def waiting(self, run: str) -> list[Attempt]:
        """See `Queue.waiting`."""
        prefix = f"{layout.run(run)}/"
        found: list[Attempt] = []
        with available():
            for kind in KINDS:
                stored = cast(dict[str, str], self._redis.hgetall(self._key(kind, "history")))
                found += [history_of(text) for name, text in stored.items() if name.startswith(prefix)]
        return held_up(found)

    def items(self, kind: Kind) -> list[tuple[WorkItem, Attempt]]:
        """See `Queue.items`."""
        with available():
            payloads = cast(dict[str, str], self._redis.hgetall(self._key(kind, "items")))
            readable = (item_of(kind, {"id": identity, "item": payloads[identity]}) for identity in sorted(payloads))
            return [(item, self._history(kind, item.id)) for item in readable if isinstance(item, WorkItem)]

    def _reclaim(self, kind: Kind) -> Claim | None:
        """An entry whose worker fell silent, looked for at most four times a lease."""
        now = time.monotonic()
        if now < self._swept.get(kind, 0.0):
            return None
        stream, idle_ms, cursor = self._key(kind, "stream"), int(self._lease_s * 1000), "0-0"
        while True:
            # One call looks at ten entries only, and returns where to go on; deleted ones come without fields.
            call = partial(self._redis.xautoclaim, stream, GROUP, self._consumer, idle_ms, start_id=cursor, count=1)
            reply = self._with_group(kind, call)
            for entry, fields in [row for row in reply[1] if row[1] is not None]:
                held = self._redis.xpending_range(stream, GROUP, entry, entry, 1)
                claim = self._decode(kind, entry, fields, times_delivered=held[0]["times_delivered"] if held else 1)
                if claim is not None:
                    return claim
            cursor = reply[0]
            if cursor == "0-0":
                break
        self._swept[kind] = now + self._lease_s / 4 * random.uniform(0.8, 1.2)  # noqa: S311  (jitter)
        return None

    def _read(self, kind: Kind, *, block_s: float = 0.0) -> Claim | None:
        streams = {self._key(kind, "stream"): ">"}
        block = int(block_s * 1000) if block_s >= 0.001 else None  # BLOCK 0 would wait for ever
        call = partial(self._redis.xreadgroup, GROUP, self._consumer, streams, count=1, block=block)
        rows = [row for _, rows in self._with_group(kind, call) or [] for row in rows]
        return self._decode(kind, *rows[0], times_delivered=1) if rows else None

    def _decode(self, kind: Kind, entry: str, fields: Fields, *, times_delivered: int) -> Claim | None:
        """The entry as a claim. One that nobody can read is removed and told, so that it cannot come back for ever.

        One of another release is left to that release's workers.
        """
        item = item_of(kind, fields)
        if isinstance(item, WorkItem):
            history = self._history(kind, item.id)
            number = history.number - 1 + times_delivered
            return Claim(item, entry, history.model_copy(update={"number": number}))
        if isinstance(item, Foreign):
            self._leave(kind, entry, item)
            return None
        log.error("item_undecodable", kind=kind, entry=entry, error=item)
        identity = fields.get("id", "")
        self._redis.xack(self._key(kind, "stream"), GROUP, entry)
        self._redis.xdel(self._key(kind, "stream"), entry)
        for name in ("items", "history"):
            self._redis.hdel(self._key(kind, name), identity)
        data = {"item": identity, "entry": entry, "kind": kind, "error": item}
        self.publish(Event(type="item_undecodable", run=run_of(identity), data=data))
        return None

    def _leave(self, kind: Kind, entry: str, item: Foreign) -> None:
        """Hand an item back for whoever understands it; no try is counted, and its run says for whom it waits."""
        history = deferred(self._history(kind, item.id), item.reason, Wait(), self._now_s())
        log.warning("item_of_another_release", kind=kind, reason=item.reason)
        self._put_back(kind, entry, item.id, history, delay_s=OTHER_RELEASE_PAUSE_S)
        if worth_telling(history):
            data = {"item": item.id, "reason": item.reason, "delay_s": OTHER_RELEASE_PAUSE_S, "counted": False}
            self.publish(Event(type="item_deferred", run=run_of(item.id), data=data))

    def _history(self, kind: Kind, identity: str) -> Attempt:
        """What is stored has `number` one above the counted tries."""
        history = history_of(self._redis.hget(self._key(kind, "history"), identity))
        if history.waiting_since_s is None:
            return history
        return history.model_copy(update={"waited_s": max(0.0, self._now_s() - history.waiting_since_s)})

    def _now_s(self) -> float:
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6

    def _return(self, claim: Claim, history: Attempt, *, tries: int, delay_s: float, keep: bool = False) -> bool:
        stored = history.model_copy(update={"number": tries + 1})
        return self._put_back(claim.item.kind, claim.entry, claim.item.id, stored, delay_s=delay_s, keep=keep)

    def _put_back(
        self, kind: Kind, entry: str, identity: str, history: Attempt, *, delay_s: float, keep: bool = False
    ) -> bool:
        """Store the history, whose `number` is that of the next try, and the item for later unless `keep`."""
        keys = [self._key(kind, "stream"), self._key(kind, "delayed"), self._key(kind, "history")]
        args = [entry, self._consumer, identity, history.model_dump_json(), int(delay_s * 1000), int(keep)]
        with available():
            return bool(self._with_group(kind, lambda: self._hand_back(keys=keys, args=args)))

    def _key(self, kind: Kind, name: str) -> str:
        return f"{self._namespace}:{kind}:{name}"

    def _held(self, claim: Claim) -> list[str]:
        return [claim.entry, self._consumer]

    def _drop_kind(self, kind: Kind, run: str) -> int:
        keys = [
            self._key(kind, "stream"),
            self._key(kind, "delayed"),
            self._key(kind, "items"),
            self._key(kind, "history"),
        ]
        return int(self._drop(keys=keys, args=[f"{layout.run(run)}/"]))

    def _depth(self, kind: Kind) -> Depth:
        stream = self._key(kind, "stream")
        in_flight = int(self._redis.xpending(stream, GROUP)["pending"])
        first = self._redis.xrange(stream, count=1)
        age = self._now_s() - int(first[0][0].split("-")[0]) / 1000 if first else 0.0
        waiting = int(self._redis.xlen(stream)) - in_flight
        return Depth(max(0, waiting), in_flight, int(self._redis.zcard(self._key(kind, "delayed"))), max(0.0, age))

    def _with_group(self, kind: Kind, call: Callable[[], Any]) -> Any:
        """The call's reply; makes the group first where a wiped Redis has none."""
        try:
            return call()
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            # The group exists already where another worker was faster.
            self._group(keys=[self._key(kind, "stream")])
            return call()


def _event_id(text: str) -> str:
    milliseconds, _, number = text.partition("-")
    if not (milliseconds.isdecimal() and (number or "0").isdecimal()):
        raise ValueError(f"not an event id: {text!r}")
    return text
