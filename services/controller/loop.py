"""The controller's one loop: look at the active run, do what is due, wait for an event or a second.

Consumes the live event stream as a wake-up only; a missed event costs at most a second. Survives a lost Redis by
waiting for it: whatever the queue forgot is found missing in the store and asked for again.
"""

import threading

import structlog

from services.controller.reconciling.actions import perform
from services.controller.reconciling.observer import observe
from services.controller.reconciling.reconciler import Fail, next_actions
from services.controller.runs.repository import RunRepository
from shared.contracts.rest.runs import RunRecord
from shared.store.queue.protocol import Queue, QueueUnavailableError

log = structlog.get_logger(__name__)

IDLE_S = 1.0


class ReconcileLoop:
    """Advances runs until told to stop."""

    def __init__(self, repository: RunRepository, queue: Queue) -> None:
        self._repository = repository
        self._queue = queue
        self.last_error: str | None = None

    def run(self, stop: threading.Event) -> None:
        """Reconcile until `stop` is set."""
        cursor = "0"
        while not stop.is_set():
            try:
                if not self.reconcile():
                    seen = self._queue.events(cursor, wait_s=IDLE_S)
                    cursor = seen[-1][0] if seen else cursor
                self.last_error = None
            except QueueUnavailableError as error:
                self._wait(stop, f"redis: {error}")
            except Exception as error:
                log.exception("reconcile_failed")
                self._wait(stop, f"{type(error).__name__}: {error}")

    def reconcile(self) -> int:
        """One look at the active run; how many actions were due."""
        record = self._repository.active()
        if record is None:
            return 0
        outstanding = frozenset(self._queue.outstanding(record.id))
        try:
            return self._advance(record, outstanding)
        except (ValueError, ArithmeticError) as error:
            # What is stored is broken and stays so: this run fails with the reason, the others go on.
            log.exception("run_broken", run=record.id)
            reason = f"{type(error).__name__}: {error}"
            perform(self._repository.store, self._queue, record, Fail(reason))
            return 1

    def _advance(self, record: RunRecord, outstanding: frozenset[str]) -> int:
        observed = observe(self._repository.store, record.id, record.spec, outstanding)
        actions = next_actions(record.spec, observed)
        for action in actions:
            perform(self._repository.store, self._queue, record, action)
        return len(actions)

    def _wait(self, stop: threading.Event, reason: str) -> None:
        if self.last_error != reason:
            log.warning("reconcile_waits", reason=reason)
        self.last_error = reason
        stop.wait(IDLE_S)
