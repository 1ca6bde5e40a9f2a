"""What nobody can need any more leaves the store, now and then, while the controller runs.

Every rule errs to the side of keeping: what a record may name, a process may hold or a run may ask for stays.
"""

import threading

import structlog

from services.controller.runs.repository import RunRepository
from shared.contracts.judges import judges_of
from shared.contracts.rest.runs import RunRecord
from shared.store.artifacts.collecting import collect_comparisons, collect_temporaries
from shared.store.artifacts.store import DirectoryStore
from shared.store.weights.collecting import collect_run

log = structlog.get_logger(__name__)

FIRST_S = 60.0
INTERVAL_S = 1800.0


class Collector:
    """Candidates and scratch of all runs, temporaries of killed writers, comparisons that are over."""

    def __init__(self, repository: RunRepository, store: DirectoryStore) -> None:
        self._repository = repository
        self._store = store

    def run(self, stop: threading.Event) -> None:
        """Collect until `stop` is set."""
        pause_s = FIRST_S
        while not stop.wait(pause_s):
            pause_s = INTERVAL_S
            try:
                gone = self.collect()
            except OSError as error:
                log.warning("nothing_collected", reason=repr(error))
                continue
            if gone:
                log.info("collected", num=len(gone), first=gone[:20])

    def collect(self) -> list[str]:
        """One round; what is gone. A run with a record that cannot be read keeps everything."""
        known = self._repository.records()
        gone: list[str] = []
        for run in known:
            try:
                gone += collect_run(self._store, run)
            except (OSError, ValueError) as error:
                log.warning("nothing_collected", run=run, reason=repr(error))
        gone += collect_temporaries(self._store)
        return gone + collect_comparisons(self._store, awaited=any(map(self._may_ask, known.values())))

    def _may_ask(self, record: RunRecord | None) -> bool:
        """Whether a run may still put up comparisons, or wait for their verdicts."""
        if record is None:
            return True
        pulls = any(judge.kind == "pull" for judge in judges_of(record.spec.oracle.judge).values())
        return pulls and not self._repository.ended(record)
