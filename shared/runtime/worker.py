"""The one worker loop of all services: claim → handle → write → acknowledge.

The handler writes its artifact, durable, before it returns; only then is the item acknowledged. A heartbeat thread
renews the lease meanwhile, so work that blocks the interpreter for minutes is not given to somebody else, and ends
the process at a hard deadline, so that work that hangs is.

    claim ──► run ended? ──► complete
          ──► three tries? ─► dead letter (an artifact) ──► complete
          ──► handle ──┬─ returns ─────► complete
                       ├─ RetryLater ──► defer: something outside is down, no try is counted
                       └─ raises ──────► fail: again after a pause, or dead letter after the third try
"""

import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from shared.contracts.records import DeadLetter, Intent
from shared.contracts.work import Attempt, Event, Kind, WorkItem
from shared.store import layout
from shared.store.artifacts import ArtifactStore, create_model, read_model
from shared.store.queue import MAX_TRIES, Claim, Queue, QueueUnavailableError

log = structlog.get_logger(__name__)

EXIT_DEADLINE = 75
CLAIM_WAIT_S = 5.0
OUTAGE_PAUSE_S = 0.5
TICK_S = 1.0

Handler = Callable[[WorkItem, Attempt], dict[str, Any]]
ResultT = TypeVar("ResultT")


class RetryLater(Exception):  # noqa: N818  (a request to the loop, not an error)
    """Raised by a handler when something outside is down: the item comes back after `delay_s`, no try is counted."""

    def __init__(self, delay_s: float, reason: str) -> None:
        super().__init__(reason)
        self.delay_s = delay_s
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a lease lasts without a heartbeat, an item in all, and an item after the worker was told to stop."""

    lease_s: float
    deadline_s: float
    drain_s: float = 20.0


class Worker:
    """Handles items of some kinds, one at a time, until told to stop. Several may run in threads of one process."""

    def __init__(
        self,
        queue: Queue,
        store: ArtifactStore,
        kinds: Sequence[Kind],
        handler: Handler,
        limits: Limits,
        *,
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._queue = queue
        self._store = store
        self._kinds = kinds
        self._handler = handler
        self._limits = limits
        self._end_process = end_process

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set and the item in hand is finished. Waits out a lost Redis; loses nothing by it."""
        while not stop.is_set():
            try:
                claim = self._queue.claim(self._kinds, wait_s=CLAIM_WAIT_S)
            except QueueUnavailableError as error:
                log.warning("queue_unavailable", error=str(error))
                stop.wait(OUTAGE_PAUSE_S)
                continue
            if claim is not None:
                self.work(claim, stop)

    def work(self, claim: Claim, stop: threading.Event) -> None:
        """One claimed item, to its acknowledgement."""
        item = claim.item
        with structlog.contextvars.bound_contextvars(item=item.id, attempt=claim.attempt.number):
            if run_ended(self._store, item.run):
                self._settle(stop, lambda: self._queue.complete(claim, _event("item_dropped", item)))
            elif stop.is_set():
                self._settle(stop, lambda: self._queue.release(claim))
            elif claim.exhausted:
                self._bury(claim, claim.attempt, stop)
            else:
                self._handle(claim, stop)

    def _handle(self, claim: Claim, stop: threading.Event) -> None:
        item = claim.item
        try:
            with _Heartbeat(self._queue, claim, self._limits, stop, self._end_process):
                result = self._handler(item, claim.attempt)
        except RetryLater as later:
            log.warning("item_deferred", reason=later.reason, delay_s=later.delay_s)
            delay_s, reason = later.delay_s, later.reason
            self._settle(stop, lambda: self._queue.defer(claim, delay_s, reason))
        except Exception as error:  # noqa: BLE001  (whatever a handler raises is a failed try with a reason)
            log.error("item_failed", error=repr(error), traceback=traceback.format_exc())
            reason = f"{type(error).__name__}: {error}"
            history = self._settle(stop, lambda: self._queue.fail(claim, reason))
            if history is not None and history.number >= MAX_TRIES:
                self._bury(claim, history, stop)
        else:
            if self._settle(stop, lambda: self._queue.complete(claim, _event("item_done", item, result))) is False:
                log.info("lease_lost")

    def _bury(self, claim: Claim, history: Attempt, stop: threading.Event) -> None:
        """The dead letter is durable before the item is forgotten, or it would be asked for for ever."""
        tries = min(history.number, MAX_TRIES)
        silent = tries - len(history.reasons)
        reasons = list(history.reasons)
        if silent > 0:
            reasons.append(f"the worker died or fell silent {silent} times while holding it")
        item = claim.item
        letter = DeadLetter(item=item.id, attempts=tries, reasons=reasons)
        create_model(self._store, layout.dead(item.step, item.kind, item.shard), letter)
        log.error("item_dead", reasons=reasons)
        self._settle(stop, lambda: self._queue.complete(claim, _event("item_dead", item, {"reasons": reasons})))

    def _settle(self, stop: threading.Event, call: Callable[[], ResultT]) -> ResultT | None:
        """The call's result once Redis answers; None when it does not before the end of a stopping worker."""
        while True:
            try:
                return call()
            except QueueUnavailableError as error:
                log.warning("queue_unavailable", error=str(error))
                if stop.wait(OUTAGE_PAUSE_S):
                    return None


class _Heartbeat:
    """Renews a lease in a thread of its own, and ends the process at the deadline."""

    def __init__(
        self,
        queue: Queue,
        claim: Claim,
        limits: Limits,
        stop: threading.Event,
        end_process: Callable[[int], None],
    ) -> None:
        self._queue = queue
        self._claim = claim
        self._limits = limits
        self._stop = stop
        self._end_process = end_process
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        period = self._limits.lease_s / 3
        started = renewed = time.monotonic()
        stopping: float | None = None
        while not self._done.wait(min(period, TICK_S)):
            now = time.monotonic()
            if now - started > self._limits.deadline_s:
                self._expire()
                return
            stopping = now if stopping is None and self._stop.is_set() else stopping
            if stopping is not None and now - stopping > self._limits.drain_s:
                self._leave()
                return
            if now - renewed > period:
                renewed = now
                if not self._renew():
                    return

    def _renew(self) -> bool:
        try:
            if self._queue.renew(self._claim):
                return True
            log.warning("lease_lost", item=self._claim.item.id)
            return False
        except QueueUnavailableError as error:
            log.warning("queue_unavailable", error=str(error))
            return True

    def _leave(self) -> None:
        """Told to stop, and the item takes longer than draining may: another worker shall have it at once."""
        log.warning("item_released", item=self._claim.item.id)
        try:
            self._queue.release(self._claim)
        except QueueUnavailableError as error:
            log.warning("queue_unavailable", error=str(error))
        self._end_process(0)

    def _expire(self) -> None:
        reason = f"deadline of {self._limits.deadline_s:g} s exceeded"
        log.error("deadline_exceeded", item=self._claim.item.id, deadline_s=self._limits.deadline_s)
        try:
            self._queue.fail(self._claim, reason)
        except QueueUnavailableError as error:
            log.warning("queue_unavailable", error=str(error))
        self._end_process(EXIT_DEADLINE)


def run_ended(store: ArtifactStore, run: str) -> bool:
    """Whether the run was cancelled or has failed: its remaining work is dropped."""
    names = store.list(layout.intents(run))
    if not names:
        return False
    return read_model(store, f"{layout.intents(run)}/{names[-1]}", Intent).action in ("cancel", "failed")


def _event(event_type: str, item: WorkItem, data: dict[str, Any] | None = None) -> Event:
    return Event(type=event_type, run=item.run, data={**(data or {}), "item": item.id})
