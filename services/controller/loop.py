"""The controller's one loop: look at the active run, do what is due, wait for an event or a second.

Consumes the live event stream as a wake-up only: all that came since the last look is one look, and a missed event
costs at most a second. After a look it rests many times as long as the look took, so looks take the same small share of
a core however many shards the run has and however fast they finish. Survives a lost Redis by waiting for it: whatever
the queue forgot is found missing in the store and asked for again.
"""

import threading
import time
from collections.abc import Callable

import structlog

from services.controller.reconciling.actions import perform
from services.controller.reconciling.faults import described, is_broken
from services.controller.reconciling.reconciler import Action, next_actions
from services.controller.runs.repository import RunRepository
from shared.contracts.rest.runs import RunRecord
from shared.store.artifacts.refusals import refusal
from shared.store.artifacts.store import NewerArtifactError
from shared.store.queue.protocol import Queue, QueueUnavailableError

log = structlog.get_logger(__name__)

SWITCH_S = 0.0005  # the interpreter's, for a process with a loop: what it does at length must not hold up the API
IDLE_S = 1.0
REST = 20.0  # times a look's own time on the CPU: looks take a twentieth of a core at most
LONGEST_REST_S = 5.0


class ReconcileLoop:
    """Advances runs until told to stop. `clock` is what a look's cost is measured by."""

    def __init__(
        self, repository: RunRepository, queue: Queue, *, clock: Callable[[], float] = time.thread_time
    ) -> None:
        self.repository = repository
        self.last_error: str | None = None
        self._queue = queue
        self._clock = clock
        self._rest_s = 0.0

    def run(self, stop: threading.Event) -> None:
        """Reconcile until `stop` is set. `last_error` says what it waits for, or that it has ended before."""
        try:
            while not stop.is_set():
                self._turn(stop)
        finally:
            if not stop.is_set():
                self.last_error = "has ended"

    def _turn(self, stop: threading.Event) -> None:
        try:
            seen = self._queue.last_event()
            due = self.reconcile()
            self.last_error = None
            stop.wait(self._rest_s)
            if not due:
                self._queue.events(seen, wait_s=IDLE_S)
        except QueueUnavailableError as error:
            self._wait(stop, f"redis: {error}")
        except Exception as error:
            refused = refusal(error)
            if refused is not None:
                self._wait(stop, str(refused))
                return
            log.exception("reconcile_failed")
            self._wait(stop, f"{type(error).__name__}: {error}")

    def reconcile(self) -> int:
        """One look at the active run; how many actions were due."""
        began = self._clock()
        record = self.repository.active()
        if record is None:
            self._rest_after(began)
            return 0
        outstanding = frozenset(self._queue.outstanding(record.id))
        try:
            actions = self._due(record, outstanding)
            self._rest_after(began)
            for action in actions:
                perform(self.repository.store, self._queue, record, action)
        except Exception as error:
            # What a newer release wrote it goes on with, once this one has left.
            if isinstance(error, NewerArtifactError) or not is_broken(error):
                raise
            # What is stored is broken and stays so: this run fails with the reason, the others go on.
            log.exception("run_broken", run=record.id)
            self.repository.give_up(self._queue, record, described(error))
            return 1
        return len(actions)

    def _due(self, record: RunRecord, outstanding: frozenset[str]) -> list[Action]:
        return next_actions(record.spec, self.repository.observer.observe(record.id, record.spec, outstanding))

    def _rest_after(self, began: float) -> None:
        """What a look cost decides how soon the next one comes; what was done after it does not."""
        self._rest_s = min(LONGEST_REST_S, REST * (self._clock() - began))

    def _wait(self, stop: threading.Event, reason: str) -> None:
        if self.last_error != reason:
            log.warning("reconcile_waits", reason=reason)
        self.last_error = reason
        stop.wait(IDLE_S)
