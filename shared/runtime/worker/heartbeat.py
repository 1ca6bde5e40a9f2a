"""What goes on beside a handler: renewing the lease, and ending the process when the work takes too long."""

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from shared.runtime.worker.watchdog import WATCHDOG
from shared.store.queue.protocol import Claim, Queue, QueueUnavailableError

log = structlog.get_logger(__name__)

EXIT_DEADLINE = 75
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 3.0
TICK_S = 1.0

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a lease lasts without a heartbeat, an item in all, and an item after the worker was told to stop.

    `grace_s` after the deadline a process ends that could not even say so: it covers a slow Redis hearing the reason.
    """

    lease_s: float
    deadline_s: float
    drain_s: float = 20.0
    grace_s: float = 15.0


def patiently(stop: threading.Event, call: Callable[[], ResultT]) -> ResultT | None:
    """The call's result once Redis answers; None when it does not before `stop` is set. An outage is logged once."""
    pause_s, failures = FIRST_PAUSE_S, 0
    while True:
        try:
            result = call()
        except QueueUnavailableError as error:
            if failures == 0:
                log.warning("queue_unavailable", error=str(error))
            failures += 1
            if stop.wait(pause_s * random.uniform(0.5, 1.0)):  # noqa: S311  (jitter)
                return None
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        else:
            if failures:
                log.info("queue_available", failures=failures)
            return result


class Heartbeat:
    """Around a handler: renews its lease in a thread of its own, so that work may block the interpreter's main thread.

    Ends the process when the item takes longer than the deadline (the try is counted, with its reason), or longer than
    draining may after `stop` was set (the item is handed back, no try is counted). A lost lease ends nothing: whoever
    has it now adopts what this handler writes, or the other way round.

    Work that never gives the interpreter away stops this thread, too: the lease runs out, the item is tried elsewhere,
    and the watchdog ends this process `grace_s` after the deadline. Three such tries are three deaths of a worker.
    """

    def __init__(
        self,
        queue: Queue,
        claim: Claim,
        limits: Limits,
        stop: threading.Event,
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._queue = queue
        self._claim = claim
        self._limits = limits
        self._stop = stop
        self._end_process = end_process
        self._owned = self._reachable = True
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._watched = WATCHDOG.within(limits.deadline_s + limits.grace_s)

    def __enter__(self) -> None:
        self._watched.__enter__()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._watched.__exit__(None, None, None)

    def _beat(self) -> None:
        period = self._limits.lease_s / 3
        started = renewed = time.monotonic()
        stopping: float | None = None
        while not self._done.wait(min(period, TICK_S)):
            now = time.monotonic()
            if now - started > self._limits.deadline_s:
                self._expire()
                return
            if stopping is None and self._stop.is_set():
                stopping = now
            if stopping is not None and now - stopping > self._limits.drain_s:
                self._leave()
                return
            if self._owned and now - renewed >= period:
                renewed = now
                self._renew()

    def _renew(self) -> None:
        try:
            self._owned = self._queue.renew(self._claim)
        except QueueUnavailableError as error:
            if self._reachable:
                log.warning("queue_unavailable", item=self._claim.item.id, error=str(error))
            self._reachable = False
        except Exception:
            # A thread that dies of it would take the deadline with it.
            log.exception("renew_failed", item=self._claim.item.id)
        else:
            self._reachable = True
            if not self._owned:
                log.warning("lease_lost", item=self._claim.item.id)

    def _leave(self) -> None:
        log.warning("item_released", item=self._claim.item.id, drain_s=self._limits.drain_s)
        self._end_after(lambda: self._queue.release(self._claim), 0)

    def _expire(self) -> None:
        reason = f"deadline of {self._limits.deadline_s:g} s exceeded"
        log.error("deadline_exceeded", item=self._claim.item.id, deadline_s=self._limits.deadline_s)
        self._end_after(lambda: self._queue.fail(self._claim, reason), EXIT_DEADLINE)

    def _end_after(self, last_words: Callable[[], object], status: int) -> None:
        """The process ends whatever the queue says: unheard, the lease runs out and the try counts as a death."""
        try:
            last_words()
        except Exception:
            log.exception("last_words_unheard", item=self._claim.item.id)
        finally:
            self._end_process(status)
