"""Which runs there are, in order, and which have ended: remembered, so that a tick costs the same among many."""

import threading
from collections.abc import Callable, Sequence

from services.controller.reconciling.observer import num_intents
from shared.contracts.rest.runs import RunRecord
from shared.store.artifacts.store import ArtifactStore

# A tick a second looks at 1,000 ended runs again within 16 s.
_LOOKED_AT_AGAIN = 64


class RunIndex:
    """The runs of a store, by id. Threads may share one.

    An ended run begins again when somebody resumes it. Whoever does so in this process says so (`look_again`); for the
    sake of other processes some of the ended runs are looked at again each time, all of them in turn.
    """

    def __init__(
        self,
        store: ArtifactStore,
        read: Callable[[str], RunRecord | None],
        ended: Callable[[RunRecord], bool],
    ) -> None:
        self._store = store
        self._read = read
        self._has_ended = ended
        self._lock = threading.Lock()
        self._order: dict[str, str] = {}
        self._ended: dict[str, int] = {}

    def ids(self) -> Sequence[str]:
        """All runs that can be read, oldest first."""
        with self._lock:
            return self._ids()

    def active(self) -> RunRecord | None:
        """The oldest run that has not ended."""
        with self._lock:
            self._forget_resumed()
            candidates = (self._read(run) for run in self._ids() if run not in self._ended)
            return next((record for record in candidates if record is not None and not self._remember(record)), None)

    def look_again(self, run: str) -> None:
        """The run may have begun again."""
        with self._lock:
            self._ended.pop(run, None)

    def _ids(self) -> Sequence[str]:
        """Creation times by id, in their order: they are made anew when a run came or went."""
        names = self._store.list("runs")
        if self._order.keys() != set(names):
            created = {name: self._order.get(name) or self._created_at(name) for name in names}
            known = [(at, name) for name, at in created.items() if at is not None]
            self._order = {name: at for at, name in sorted(known)}
        return tuple(self._order)

    def _created_at(self, run: str) -> str | None:
        record = self._read(run)
        return None if record is None else record.created_at

    def _remember(self, record: RunRecord) -> bool:
        """Whether it has ended. Intents are counted first: one that comes meanwhile is found later."""
        intents = num_intents(self._store, record.id)
        ended = self._has_ended(record)
        if ended:
            self._ended[record.id] = intents
        return ended

    def _forget_resumed(self) -> None:
        """Those that were looked at longest ago; whatever has a new intent is no longer taken for ended."""
        for run in list(self._ended)[:_LOOKED_AT_AGAIN]:
            intents = self._ended.pop(run)
            if num_intents(self._store, run) == intents:
                self._ended[run] = intents
