# redis-py types its replies as unions of sync and async; they are narrowed here, at the only door to Redis.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Board and budget on Redis: see `Board` and `Budget` beside this file for what they promise.

Keys a judge: `open` (id by time), `leased` (id by expiry), `tokens` (id to lease), `failed` (id to reason), `wanted`
(id by the time when nobody waits for it any more), `stats`.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, cast

from shared.store.board import scripts
from shared.store.board.protocol import WANTED_S, BoardCounts, Lease
from shared.store.queue.redis_queue import NAMESPACE
from shared.store.redis_client import available, connect

_PUT_AT_ONCE = 500


class RedisBoard:
    """See `Board`. Threads may share one. All keys begin with `namespace`."""

    def __init__(self, url: str, *, namespace: str = NAMESPACE) -> None:
        self._namespace = namespace
        self._redis: Any = connect(url)
        self._put = self._redis.register_script(scripts.PUT)
        self._lease = self._redis.register_script(scripts.LEASE)
        self._settle = self._redis.register_script(scripts.SETTLE)
        self._fail = self._redis.register_script(scripts.FAIL)
        self._counts = self._redis.register_script(scripts.COUNTS)

    def put(self, judge: str, ids: Sequence[str]) -> Mapping[str, str]:
        """See `Board.put`."""
        failed: dict[str, str] = {}
        keys = self._keys(judge, "open", "leased", "failed", "wanted")
        with available():
            for start in range(0, len(ids), _PUT_AT_ONCE):
                some = ids[start : start + _PUT_AT_ONCE]
                reply = cast(list[str], self._put(keys=keys, args=[int(WANTED_S * 1000), *some]))
                failed.update(zip(reply[::2], reply[1::2], strict=True))
        return failed

    def lease(self, judge: str, *, max_items: int, lease_s: float) -> list[Lease]:
        """See `Board.lease`."""
        token = secrets.token_urlsafe(12)
        keys = self._keys(judge, "open", "leased", "failed", "wanted", "tokens", "stats")
        with available():
            reply = cast(list[str], self._lease(keys=keys, args=[max_items, int(lease_s * 1000), token]))
        return [Lease(identity, token, int(reply[0]) / 1000) for identity in reply[1:]]

    def settle(self, judge: str, identity: str, *, answered: bool = True) -> None:
        """See `Board.settle`."""
        keys = self._keys(judge, "open", "leased", "failed", "wanted", "tokens", "stats")
        with available():
            self._settle(keys=keys, args=[identity, int(answered)])

    def fail(self, judge: str, identity: str, token: str, reason: str) -> bool:
        """See `Board.fail`."""
        keys = self._keys(judge, "leased", "failed", "tokens", "stats")
        with available():
            return bool(self._fail(keys=keys, args=[identity, token, reason]))

    def forget(self, judge: str, ids: Sequence[str]) -> None:
        """See `Board.forget`."""
        with available():
            self._redis.hdel(self._key(judge, "failed"), *ids)

    def counts(self, judge: str) -> BoardCounts:
        """See `Board.counts`."""
        with available():
            reply = cast(list[int], self._counts(keys=self._keys(judge, "open", "leased", "failed", "stats")))
        num_open, leased, failed, answered, silent_ms = reply
        return BoardCounts(num_open, leased, failed, answered, None if silent_ms < 0 else silent_ms / 1000)

    def _key(self, judge: str, name: str) -> str:
        return f"{self._namespace}:board:{judge}:{name}"

    def _keys(self, judge: str, *names: str) -> list[str]:
        """Of a script, in the order that it wants them: the clock, which all judges share, comes last."""
        return [*(self._key(judge, name) for name in names), _clock(self._namespace)]


class RedisBudget:
    """See `Budget`. Threads may share one. All keys begin with `namespace`."""

    def __init__(self, url: str, *, namespace: str = NAMESPACE) -> None:
        self._namespace = namespace
        self._redis: Any = connect(url)
        self._take = self._redis.register_script(scripts.TAKE)
        self._hold = self._redis.register_script(scripts.HOLD)

    def take(self, name: str, *, per_minute: float) -> float:
        """See `Budget.take`."""
        with available():
            return int(self._take(keys=[*self._keys(name), _clock(self._namespace)], args=[per_minute])) / 1000

    def hold(self, name: str, seconds: float) -> None:
        """See `Budget.hold`."""
        with available():
            self._hold(keys=self._keys(name)[1:], args=[max(1, int(seconds * 1000))])

    def _keys(self, name: str) -> list[str]:
        return [f"{self._namespace}:budget:{name}", f"{self._namespace}:budget:{name}:held"]


def _clock(namespace: str) -> str:
    return f"{namespace}:board:clock"
