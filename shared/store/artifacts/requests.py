"""Requests that must not be answered twice: who has one in hand, and what was answered.

```
idempotency/<digest>/request.json          what was asked, written once
idempotency/<digest>/claim-0001.json       who works on it; a higher number took over
idempotency/<digest>/released-0001.json    that one gave up without an answer: the next may try at once
idempotency/<digest>/answer.json           the answer, for ever after
```

A claim whose holder died is taken over after a while, so an effect must be made once for a `RequestIdentity`, however
often its request is worked on: name it by the digest, and look for it first.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from shared.contracts.base import Fact
from shared.store.artifacts.store import (
    ArtifactStore,
    CorruptArtifactError,
    MissingArtifactError,
    create_model,
    read_model,
)

FOLDER = "idempotency"
KEPT_S = 48 * 3600.0
SEEN_S = 24 * 3600.0
TAKEOVER_S = 60.0
SWEEP_EVERY_S = 3600.0


class DifferentRequestError(ValueError):
    """The key was used for another body."""


class RequestInFlightError(RuntimeError):
    """Somebody works on this very request at this moment."""


class StoredAnswer(Fact):
    """An HTTP answer, as it was sent the first time."""

    status: int
    headers: list[tuple[str, str]]
    body: str


class _Request(Fact):
    fingerprint: str
    at_s: float


class _Claim(Fact):
    holder: str
    at_s: float


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """The same for all repetitions of a request: its digest, and when it came first (seconds since 1970, UTC)."""

    digest: str
    at_s: float


class InHand:
    """A request that this process works on. `settle` answers it for good; without, it may be tried again at once."""

    def __init__(self, store: ArtifactStore, identity: RequestIdentity) -> None:
        self._store = store
        self._key = f"{FOLDER}/{identity.digest}/answer.json"
        self.identity = identity
        self.settled = False

    def settle(self, answer: StoredAnswer) -> StoredAnswer:
        """Store the answer, durable; returns the one that counts, which is the first."""
        create_model(self._store, self._key, answer)
        self.settled = True
        return read_model(self._store, self._key, StoredAnswer)


class RequestLedger:
    """The requests of one artifact store, kept for at least 24 hours. Safe for any number of threads and processes."""

    def __init__(
        self,
        store: ArtifactStore,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._holder = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._active: set[str] = set()
        self._swept_s = -SWEEP_EVERY_S + monotonic()
        self._claims_seen_s: dict[tuple[str, int], float] = {}
        self._requests_seen_s: dict[str, float] = {}

    @contextmanager
    def open(self, route: str, key: str, fingerprint: str) -> Generator[StoredAnswer | InHand]:
        """The answer, if the request was answered before; else the request, to be worked on inside the block.

        `route` and `key` identify it, `fingerprint` says what is asked. `DifferentRequestError` when that differs from
        the first time, `RequestInFlightError` while somebody else works on it.
        """
        self._sweep()
        digest = hashlib.sha256(f"{route}\n{key}".encode()).hexdigest()
        with self._alone(digest):
            identity = self._identity(digest, fingerprint)
            answer = self._answer(digest)
            if answer is not None:
                yield answer
                return
            number = self._claim(digest)
            answer = self._answer(digest)  # it may have come before the claim was made
            if answer is not None:
                yield answer
                return
            in_hand = InHand(self._store, identity)
            try:
                yield in_hand
            finally:
                if not in_hand.settled:
                    # On storage that refuses, the claim is this process's own for another try, and passes for others.
                    with suppress(OSError):
                        self._store.create(f"{FOLDER}/{digest}/released-{number:04d}.json", b"{}\n")

    @contextmanager
    def _alone(self, digest: str) -> Generator[None]:
        with self._lock:
            if digest in self._active:
                raise RequestInFlightError(digest)
            self._active.add(digest)
        try:
            yield
        finally:
            with self._lock:
                self._active.discard(digest)

    def _identity(self, digest: str, fingerprint: str) -> RequestIdentity:
        key = f"{FOLDER}/{digest}/request.json"
        create_model(self._store, key, _Request(fingerprint=fingerprint, at_s=self._clock()))
        first = read_model(self._store, key, _Request)
        if first.fingerprint != fingerprint:
            raise DifferentRequestError(digest)
        return RequestIdentity(digest, first.at_s)

    def _answer(self, digest: str) -> StoredAnswer | None:
        key = f"{FOLDER}/{digest}/answer.json"
        return read_model(self._store, key, StoredAnswer) if self._store.exists(key) else None

    def _claim(self, digest: str) -> int:
        """The number of this process's claim."""
        folder = f"{FOLDER}/{digest}"
        last = sum(name.startswith("claim-") for name in self._store.list(folder))
        if last and self._is_held(digest, folder, last):
            raise RequestInFlightError(digest)
        claim = _Claim(holder=self._holder, at_s=self._clock())
        if not create_model(self._store, f"{folder}/claim-{last + 1:04d}.json", claim):
            raise RequestInFlightError(digest)
        self._claims_seen_s.pop((digest, last), None)
        return last + 1

    def _is_held(self, digest: str, folder: str, number: int) -> bool:
        if self._store.exists(f"{folder}/released-{number:04d}.json"):
            return False
        claim = read_model(self._store, f"{folder}/claim-{number:04d}.json", _Claim)
        # One of this process's own that is not active ended without a word: its thread was torn down.
        if claim.holder == self._holder:
            return False
        # A claim that a clock dated into the future is over, too, when this process has seen it for so long.
        now = self._monotonic()
        seen_s = now - self._claims_seen_s.setdefault((digest, number), now)
        return self._clock() - claim.at_s < TAKEOVER_S and seen_s < TAKEOVER_S

    def _sweep(self) -> None:
        """Forget requests whose time is over, at most once an hour.

        Over is what a clock says that may jump, and what this process has seen for a day by one that does not.
        """
        now, seen_s = self._clock(), self._monotonic()
        with self._lock:
            if seen_s - self._swept_s < SWEEP_EVERY_S:
                return
            self._swept_s = seen_s
        there = self._store.list(FOLDER)
        self._requests_seen_s = {digest: self._requests_seen_s.get(digest, seen_s) for digest in there}
        for digest in there:
            if seen_s - self._requests_seen_s[digest] < SEEN_S:
                continue
            try:
                first = read_model(self._store, f"{FOLDER}/{digest}/request.json", _Request)
            except (MissingArtifactError, CorruptArtifactError):
                continue
            if now - first.at_s > KEPT_S:
                self._store.remove(f"{FOLDER}/{digest}")
