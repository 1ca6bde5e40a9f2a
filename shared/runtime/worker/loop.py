"""The one worker loop of all services: claim → handle → write → acknowledge.

The handler writes its artifact, durable, before it returns; only then is the item acknowledged. `Heartbeat` renews the
lease meanwhile, so work that blocks for minutes is not given to somebody else, and ends the process at a hard deadline,
so that work that hangs is; work that holds the interpreter is ended by the watchdog, which needs none.

    claim ──► run ended? ──► complete
          ──► three tries? ─► dead letter (an artifact) ──► complete
          ──► handle ──┬─ returns ─────► complete
                       ├─ RetryLater ──► defer: something outside is down, no try is counted
                       ├─ GiveUp ──────► dead letter, at once
                       └─ raises ──────► fail: again after a pause, or dead letter after the third try
"""

import os
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Counter

from shared.contracts.outside import cleaned
from shared.contracts.records import DeadLetter
from shared.contracts.work import Attempt, Event, Kind, WorkItem
from shared.runtime.worker.heartbeat import EXIT_DEADLINE, Heartbeat, Limits, patiently
from shared.store.artifacts import layout
from shared.store.artifacts.refusals import refusal
from shared.store.artifacts.runs import intent_in_force
from shared.store.artifacts.store import ArtifactStore, DirectoryStore, NewerArtifactError, create_model
from shared.store.queue.protocol import MAX_TRIES, Claim, Queue, QueueUnavailableError, Wait, told

__all__ = ["EXIT_DEADLINE", "GiveUp", "Handler", "Limits", "RetryLater", "Worker", "run_ended"]

log = structlog.get_logger(__name__)

CLAIM_WAIT_S = 1.0
FIRST_STORAGE_PAUSE_S, LONGEST_STORAGE_PAUSE_S = 1.0, 30.0
QUEUE_PAUSE_S = 5.0
OTHER_RELEASE_PAUSE_S = 10.0
MAX_REASON_CHARS = 2000

_deferred = Counter("inpo_items_deferred", "Items handed back for later.", ["kind", "cause"])

Handler = Callable[[WorkItem, Attempt], dict[str, Any]]


class RetryLater(Exception):  # noqa: N818  (a request to the loop, not an error)
    """Raised by a handler when something outside is down: the item comes back after `delay_s`, no try is counted.

    With `counted` something outside failed on this very item, and `Attempt.deferrals` counts it. Otherwise it was
    unavailable to all, which `Attempt.waits` shows; `progress`, once it grows, begins the waiting anew.
    """

    def __init__(self, delay_s: float, reason: str, *, counted: bool = False, progress: int = 0) -> None:
        super().__init__(reason)
        self.delay_s = delay_s
        self.reason = reason
        self.counted = counted
        self.progress = progress


class GiveUp(Exception):  # noqa: N818  (a request to the loop, not an error)
    """Raised by a handler when no further try can help: the item becomes a dead letter with this reason, at once."""


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
        self._store_root = store.root if isinstance(store, DirectoryStore) else None

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set and the item in hand is finished. Waits out a lost Redis; loses nothing by it."""
        while not stop.is_set():
            claim = patiently(stop, lambda: self._queue.claim(self._kinds, wait_s=CLAIM_WAIT_S))
            if claim is not None:
                self.work(claim, stop)

    def work(self, claim: Claim, stop: threading.Event) -> None:
        """One claimed item, to its acknowledgement; never raises. What cannot be settled comes back with its lease."""
        with structlog.contextvars.bound_contextvars(item=claim.item.id, attempt=claim.attempt.number):
            try:
                self._work(claim, stop)
            except Exception as error:
                refused = refusal(error, self._store_root)
                if refused is not None:
                    log.warning("item_unsettled", reason=str(refused))
                else:
                    log.exception("item_unsettled")

    def _work(self, claim: Claim, stop: threading.Event) -> None:
        if run_ended(self._store, claim.item.run):
            patiently(stop, lambda: self._queue.complete(claim, told("item_dropped", claim)))
        elif stop.is_set():
            patiently(stop, lambda: self._queue.release(claim))
        elif claim.exhausted:
            self._bury(claim, claim.attempt, stop)
        else:
            self._handle(claim, stop)

    def _handle(self, claim: Claim, stop: threading.Event) -> None:
        try:
            with Heartbeat(self._queue, claim, self._limits, stop, self._end_process):
                result = self._handler(claim.item, claim.attempt)
        except GiveUp as error:
            reasons = [*claim.attempt.reasons, _printable(str(error))]
            self._bury(claim, claim.attempt.model_copy(update={"number": len(reasons), "reasons": reasons}), stop)
        except Exception as error:  # noqa: BLE001  (whatever a handler raises is a failed try with a reason)
            later = _retry_later(error, claim.attempt, self._store_root)
            if later is None:
                self._fail(claim, error, stop)
            else:
                self._defer(claim, later, stop)
        else:
            event = Event(type="item_done", run=claim.item.run, data={**result, "item": claim.item.id})
            if patiently(stop, lambda: self._queue.complete(claim, event)) is False:
                log.info("lease_lost")

    def _defer(self, claim: Claim, later: RetryLater, stop: threading.Event) -> None:
        log.warning("item_deferred", reason=later.reason, delay_s=later.delay_s, counted=later.counted)
        _deferred.labels(claim.item.kind, "failed" if later.counted else "unavailable").inc()
        wait = None if later.counted else Wait(later.progress)
        patiently(stop, lambda: self._queue.defer(claim, later.delay_s, _printable(later.reason), wait))

    def _fail(self, claim: Claim, error: Exception, stop: threading.Event) -> None:
        log.error("item_failed", error=repr(error), traceback="".join(traceback.format_exception(error)))
        reason = _printable(f"{type(error).__name__}: {error}")
        history = patiently(stop, lambda: self._queue.fail(claim, reason))
        if history is None or history.number < MAX_TRIES:
            return
        # Without the lease, somebody else has the item, with a history of its own.
        if patiently(stop, lambda: self._queue.renew(claim)):
            self._bury(claim, history, stop)

    def _bury(self, claim: Claim, history: Attempt, stop: threading.Event) -> None:
        """The dead letter is durable before the item is forgotten, or it would be asked for for ever."""
        tries = min(history.number, MAX_TRIES)
        silent = tries - len(history.reasons)
        reasons = list(history.reasons)
        if silent > 0:
            times = "once" if silent == 1 else f"{silent} times"
            causes = "killed, out of memory, ended at the deadline with its interpreter blocked, or silent for a lease"
            reasons.append(f"the worker died {times} while holding it ({causes})")
        item = claim.item
        letter = DeadLetter(item=item.id, attempts=tries, reasons=reasons)
        create_model(self._store, layout.dead(item.step, item.kind, item.shard), letter)
        log.error("item_dead", reasons=reasons)
        patiently(stop, lambda: self._queue.complete(claim, told("item_dead", claim, reasons=reasons)))


def run_ended(store: ArtifactStore, run: str) -> bool:
    """Whether the run was cancelled or has failed: its remaining work is dropped.

    An intent that cannot be read ends nothing here: saying so is the controller's part.
    """
    try:
        last = intent_in_force(store, run)
    except (ValueError, OSError) as error:
        log.error("intent_unreadable", run=run, error=str(error))
        return False
    return last is not None and last.action in ("cancel", "failed")


def _retry_later(error: Exception, attempt: Attempt, store: Path | None) -> RetryLater | None:
    """The handler's own wish, a lost Redis, storage that refuses, another release's artifact: no work is to blame."""
    if isinstance(error, RetryLater):
        return error
    if isinstance(error, QueueUnavailableError):
        return RetryLater(QUEUE_PAUSE_S, f"Redis cannot be reached: {error}")
    if isinstance(error, NewerArtifactError):
        return RetryLater(OTHER_RELEASE_PAUSE_S, f"waiting for a worker of another release: {error}")
    refused = refusal(error, store)
    if refused is not None:
        # A hiccup costs a second; work that takes hours is not begun again and again while a disk stays full.
        pause_s = min(LONGEST_STORAGE_PAUSE_S, FIRST_STORAGE_PAUSE_S * 2.0 ** min(attempt.waits, 10))
        return RetryLater(pause_s, str(refused))
    return None


def _printable(text: str) -> str:
    """Short enough for Redis, and without what JSON refuses or a terminal obeys."""
    return cleaned(text, MAX_REASON_CHARS)
