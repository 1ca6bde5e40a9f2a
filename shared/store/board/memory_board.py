"""Twins of board and budget in memory, on a clock that the caller moves or a real one: for one process, and tests."""

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.store.board.protocol import WANTED_S, BoardCounts, Lease


@dataclass(slots=True)
class _Judge:
    """One judge's board: open ids in order, leases, failures with reasons, and until when each id is wanted."""

    open: dict[str, None] = field(default_factory=dict[str, None])
    leased: dict[str, Lease] = field(default_factory=dict[str, Lease])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    wanted: dict[str, float] = field(default_factory=dict[str, float])
    answered: int = 0
    last_s: float | None = None


class MemoryBoard:
    """See `Board`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._judges: dict[str, _Judge] = {}
        self._lock = threading.Lock()

    def lose_everything(self) -> None:
        """FLUSHALL."""
        with self._lock:
            self._judges.clear()

    def put(self, judge: str, ids: Sequence[str]) -> Mapping[str, str]:
        """See `Board.put`."""
        with self._lock:
            board = self._of(judge)
            for identity in ids:
                board.wanted[identity] = self._clock() + WANTED_S
                if identity not in board.failed and identity not in board.leased:
                    board.open.setdefault(identity)
            return {identity: board.failed[identity] for identity in ids if identity in board.failed}

    def lease(self, judge: str, *, max_items: int, lease_s: float) -> list[Lease]:
        """See `Board.lease`."""
        with self._lock:
            board, now = self._of(judge), self._clock()
            self._sweep(board, now)
            token, expires_at_s = secrets.token_urlsafe(12), now + lease_s
            given = [Lease(identity, token, expires_at_s) for identity in list(board.open)[:max_items]]
            for lease in given:
                del board.open[lease.id]
                board.leased[lease.id] = lease
            board.last_s = now
            return given

    def settle(self, judge: str, identity: str, *, answered: bool = True) -> None:
        """See `Board.settle`."""
        with self._lock:
            board = self._of(judge)
            for where in (board.open, board.leased, board.failed, board.wanted):
                where.pop(identity, None)
            if answered:
                board.answered += 1
                board.last_s = self._clock()

    def fail(self, judge: str, identity: str, token: str, reason: str) -> bool:
        """See `Board.fail`."""
        with self._lock:
            board, now = self._of(judge), self._clock()
            lease = board.leased.get(identity)
            if lease is None or lease.token != token or lease.expires_at_s <= now:
                return False
            del board.leased[identity]
            board.failed[identity] = reason
            board.last_s = now
            return True

    def forget(self, judge: str, ids: Sequence[str]) -> None:
        """See `Board.forget`."""
        with self._lock:
            for identity in ids:
                self._of(judge).failed.pop(identity, None)

    def counts(self, judge: str) -> BoardCounts:
        """See `Board.counts`."""
        with self._lock:
            board, now = self._of(judge), self._clock()
            over = sum(lease.expires_at_s <= now for lease in board.leased.values())
            silent_s = None if board.last_s is None else now - board.last_s
            return BoardCounts(
                len(board.open) + over, len(board.leased) - over, len(board.failed), board.answered, silent_s
            )

    def _of(self, judge: str) -> _Judge:
        return self._judges.setdefault(judge, _Judge())

    @staticmethod
    def _sweep(board: _Judge, now: float) -> None:
        over = [identity for identity, lease in board.leased.items() if lease.expires_at_s <= now]
        for identity in over:
            del board.leased[identity]
        board.open = dict.fromkeys([*(identity for identity in over if identity in board.wanted), *board.open])
        for identity in [identity for identity, until_s in board.wanted.items() if until_s <= now]:
            del board.wanted[identity]
            board.open.pop(identity, None)
            board.failed.pop(identity, None)


class MemoryBudget:
    """See `Budget`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._held: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, name: str, *, per_minute: float) -> float:
        """See `Budget.take`."""
        with self._lock:
            now, per_s = self._clock(), per_minute / 60
            held_s = self._held.get(name, now) - now
            if held_s > 0:
                return held_s
            capacity = max(1.0, per_s)
            tokens, at_s = self._buckets.get(name, (capacity, now))
            tokens = min(capacity, tokens + max(0.0, now - at_s) * per_s)
            wait_s = 0.0 if tokens >= 1 else (1 - tokens) / per_s
            self._buckets[name] = (tokens - 1 if tokens >= 1 else tokens, now)
            return wait_s

    def hold(self, name: str, seconds: float) -> None:
        """See `Budget.hold`."""
        with self._lock:
            self._held[name] = max(self._held.get(name, 0.0), self._clock() + seconds)
