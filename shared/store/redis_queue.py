# redis-py types its replies as unions of sync and async; they are narrowed here, at the only door to Redis.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The queue on Redis Streams: see `shared.store.queue.Queue` for what it promises.

One stream and one consumer group a kind of work. Beside the stream: `items` (outstanding ids with their payload),
`history` (counted tries, deferrals, reasons), `delayed` (ids due later, by Redis' clock). Works from Redis 6.2 on.
"""

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast, get_args

import redis
import structlog
from pydantic import ValidationError
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ResponseError
from redis.retry import Retry

from shared.contracts.work import Attempt, Event, Kind, WorkItem
from shared.store import layout, lua
from shared.store.queue import MAX_TRIES, Claim, Depth, QueueUnavailableError

log = structlog.get_logger(__name__)

KINDS: tuple[Kind, ...] = get_args(Kind)
EVENTS = "inpo:events"
GROUP = "workers"
BLOCK_S = 1.0
SOCKET_TIMEOUT_S = 30.0

Fields = Mapping[str, str]


def _key(kind: Kind, name: str) -> str:
    return f"inpo:{kind}:{name}"


class RedisQueue:
    """See `Queue`. Threads may share one; `consumer` must be unique among live processes."""

    def __init__(self, url: str, *, consumer: str, lease_s: float) -> None:
        self._consumer = consumer
        self._lease_s = lease_s
        self._swept: dict[Kind, float] = {}
        self._redis: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=2.0,
            retry=Retry(NoBackoff(), 0),
        )
        self._submit = self._redis.register_script(lua.SUBMIT)
        self._renew = self._redis.register_script(lua.RENEW)
        self._complete = self._redis.register_script(lua.COMPLETE)
        self._hand_back = self._redis.register_script(lua.HAND_BACK)
        self._promote = self._redis.register_script(lua.PROMOTE)
        self._drop = self._redis.register_script(lua.DROP)

    def submit(self, item: WorkItem) -> bool:
        """See `Queue.submit`."""
        keys = [_key(item.kind, "items"), _key(item.kind, "stream")]
        with _available():
            return bool(self._submit(keys=keys, args=[item.id, item.model_dump_json()]))

    def claim(self, kinds: Sequence[Kind], *, wait_s: float) -> Claim | None:
        """See `Queue.claim`."""
        deadline = time.monotonic() + wait_s
        with _available():
            while True:
                for kind in kinds:
                    self._promote(keys=[_key(kind, "delayed"), _key(kind, "stream"), _key(kind, "items")])
                    claim = self._reclaim(kind) or self._read([kind], block_s=0.0)
                    if claim is not None:
                        return claim
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return None
                claim = self._read(kinds, block_s=min(remaining, BLOCK_S, self._lease_s / 4))
                if claim is not None:
                    return claim

    def renew(self, claim: Claim) -> bool:
        """See `Queue.renew`."""
        with _available():
            keys = [_key(claim.item.kind, "stream")]
            return bool(self._with_group(claim.item.kind, lambda: self._renew(keys=keys, args=self._held(claim))))

    def complete(self, claim: Claim, event: Event) -> bool:
        """See `Queue.complete`."""
        kind = claim.item.kind
        keys = [_key(kind, "stream"), _key(kind, "items"), _key(kind, "history"), EVENTS]
        args = [*self._held(claim), claim.item.id, event.model_dump_json()]
        with _available():
            return bool(self._with_group(kind, lambda: self._complete(keys=keys, args=args)))

    def fail(self, claim: Claim, reason: str) -> Attempt:
        """See `Queue.fail`. The pause before the next try doubles with each."""
        number = claim.attempt.number
        history = claim.attempt.model_copy(update={"reasons": [*claim.attempt.reasons, reason]})
        pause_s = min(0.5 * 2**number, self._lease_s) * random.uniform(0.5, 1.0)  # noqa: S311  (jitter)
        if self._return(claim, history, tries=number, delay_s=pause_s, keep=number >= MAX_TRIES):
            self.publish(_told("item_retried", claim, reason=reason, attempt=number))
        return history

    def defer(self, claim: Claim, delay_s: float, reason: str) -> None:
        """See `Queue.defer`."""
        history = claim.attempt.model_copy(update={"deferrals": claim.attempt.deferrals + 1})
        if self._return(claim, history, tries=claim.attempt.number - 1, delay_s=delay_s):
            self.publish(_told("item_deferred", claim, reason=reason, delay_s=delay_s))

    def release(self, claim: Claim) -> None:
        """See `Queue.release`."""
        self._return(claim, claim.attempt, tries=claim.attempt.number - 1, delay_s=0.0)

    def outstanding(self, run: str) -> set[str]:
        """See `Queue.outstanding`."""
        prefix = f"{layout.run(run)}/"
        with _available():
            return {
                identity
                for kind in KINDS
                for identity in self._redis.hkeys(_key(kind, "items"))
                if identity.startswith(prefix)
            }

    def drop(self, run: str) -> int:
        """See `Queue.drop`."""
        with _available():
            return sum(self._with_group(kind, lambda kind=kind: self._drop_kind(kind, run)) for kind in KINDS)

    def publish(self, event: Event) -> None:
        """See `Queue.publish`."""
        with _available():
            self._redis.xadd(EVENTS, {"event": event.model_dump_json()}, maxlen=10_000, approximate=True)

    def events(self, after: str, *, wait_s: float) -> list[tuple[str, Event]]:
        """See `Queue.events`."""
        with _available():
            if after == "$":
                last = self._redis.xrevrange(EVENTS, count=1)
                after = last[0][0] if last else "0"
            # BLOCK 0 would wait for ever.
            block = max(1, int(wait_s * 1000)) if wait_s > 0 else None
            reply = self._redis.xread({EVENTS: after}, count=1000, block=block) or []
        return [
            (identity, Event.model_validate_json(fields["event"]))
            for _, rows in _streams(reply)
            for identity, fields in rows
        ]

    def depths(self) -> dict[Kind, Depth]:
        """See `Queue.depths`."""
        with _available():
            return {kind: self._with_group(kind, lambda kind=kind: self._depth(kind)) for kind in KINDS}

    def items(self, kind: Kind) -> list[tuple[WorkItem, Attempt]]:
        """See `Queue.items`."""
        with _available():
            payloads = cast(list[str], self._redis.hvals(_key(kind, "items")))
            found = sorted((WorkItem.model_validate_json(payload) for payload in payloads), key=lambda item: item.id)
            return [(item, self._history(kind, item.id)) for item in found]

    def _reclaim(self, kind: Kind) -> Claim | None:
        """An entry whose worker fell silent, looked for at most four times a lease."""
        now = time.monotonic()
        if now < self._swept.get(kind, 0.0):
            return None
        stream = _key(kind, "stream")
        idle_ms = int(self._lease_s * 1000)
        reply = self._with_group(
            kind, lambda: self._redis.xautoclaim(stream, GROUP, self._consumer, idle_ms, start_id="0-0", count=1)
        )
        rows = [row for row in reply[1] if row[1] is not None]
        if not rows:
            self._swept[kind] = now + self._lease_s / 4 * random.uniform(0.8, 1.2)  # noqa: S311  (jitter)
            return None
        entry, fields = rows[0]
        held = self._redis.xpending_range(stream, GROUP, entry, entry, 1)
        return self._decode(kind, entry, fields, held[0]["times_delivered"] if held else 1)

    def _read(self, kinds: Sequence[Kind], *, block_s: float) -> Claim | None:
        streams = {_key(kind, "stream"): ">" for kind in kinds}
        block = int(block_s * 1000) or None
        reply = self._with_group(
            kinds[0], lambda: self._redis.xreadgroup(GROUP, self._consumer, streams, count=1, block=block), kinds
        )
        claims = [
            self._decode(next(kind for kind in kinds if _key(kind, "stream") == stream), entry, fields, 1)
            for stream, rows in _streams(reply or [])
            for entry, fields in rows
        ]
        found = [claim for claim in claims if claim is not None]
        for surplus in found[1:]:  # COUNT holds for each stream, not for all together
            self.release(surplus)
        return found[0] if found else None

    def _decode(self, kind: Kind, entry: str, fields: Fields, times_delivered: int) -> Claim | None:
        """The entry as a claim; one that nobody can read is removed, told and asked for again by the reconciler."""
        try:
            item = WorkItem.model_validate_json(fields["item"])
        except (ValidationError, KeyError) as error:
            log.error("item_undecodable", kind=kind, entry=entry, error=str(error))
            self._redis.xack(_key(kind, "stream"), GROUP, entry)
            self._redis.xdel(_key(kind, "stream"), entry)
            self._redis.hdel(_key(kind, "items"), fields.get("id", ""))
            return None
        history = self._history(kind, item.id)
        number = history.number - 1 + times_delivered
        return Claim(item, entry, history.model_copy(update={"number": number}))

    def _history(self, kind: Kind, identity: str) -> Attempt:
        """What is stored has `number` one above the counted tries."""
        stored = self._redis.hget(_key(kind, "history"), identity)
        return Attempt(number=1) if stored is None else Attempt.model_validate_json(stored)

    def _return(self, claim: Claim, history: Attempt, *, tries: int, delay_s: float, keep: bool = False) -> bool:
        kind = claim.item.kind
        stored = history.model_copy(update={"number": tries + 1}).model_dump_json()
        keys = [_key(kind, "stream"), _key(kind, "delayed"), _key(kind, "history")]
        args = [*self._held(claim), claim.item.id, stored, int(delay_s * 1000), int(keep)]
        with _available():
            return bool(self._with_group(kind, lambda: self._hand_back(keys=keys, args=args)))

    def _held(self, claim: Claim) -> list[str]:
        return [claim.entry, self._consumer]

    def _drop_kind(self, kind: Kind, run: str) -> int:
        keys = [_key(kind, "stream"), _key(kind, "delayed"), _key(kind, "items"), _key(kind, "history")]
        return int(self._drop(keys=keys, args=[f"{layout.run(run)}/"]))

    def _depth(self, kind: Kind) -> Depth:
        stream = _key(kind, "stream")
        in_flight = int(self._redis.xpending(stream, GROUP)["pending"])
        first = self._redis.xrange(stream, count=1)
        seconds, microseconds = self._redis.time()
        age = seconds + microseconds / 1e6 - int(first[0][0].split("-")[0]) / 1000 if first else 0.0
        waiting = int(self._redis.xlen(stream)) - in_flight
        return Depth(waiting, in_flight, int(self._redis.zcard(_key(kind, "delayed"))), max(0.0, age))

    def _with_group(self, kind: Kind, call: Callable[[], Any], kinds: Sequence[Kind] = ()) -> Any:
        """The call's reply; makes the groups first where a wiped Redis has none."""
        try:
            return call()
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            for missing in kinds or [kind]:
                self._make_group(missing)
            return call()

    def _make_group(self, kind: Kind) -> None:
        try:
            self._redis.xgroup_create(_key(kind, "stream"), GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


def _streams(reply: Any) -> list[tuple[str, list[tuple[str, Fields]]]]:
    """Stream replies are lists of pairs under RESP2 and mappings under RESP3."""
    pairs = reply.items() if isinstance(reply, dict) else reply
    return [(name, rows[0] if rows and isinstance(rows[0], list) else rows) for name, rows in pairs]


def _told(event_type: str, claim: Claim, **data: object) -> Event:
    return Event(type=event_type, run=claim.item.run, data={"item": claim.item.id, **data})


@contextmanager
def _available() -> Generator[None]:
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, BusyLoadingError) as error:
        raise QueueUnavailableError(str(error)) from error
