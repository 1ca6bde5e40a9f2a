"""Which runs there are, in order, and which have ended: remembered, so that a tick costs the same among many."""

import threading
from collections.abc import Callable, Sequence

from services.controller.reconciling.faults import unless_broken
from shared.contracts.rest.runs import RunRecord
from shared.store.artifacts.runs import newest_intent
from shared.store.artifacts.store import ArtifactStore

# A tick a second looks at 1,000 ended runs again within 16 s.
_LOOKED_AT_AGAIN = 64
_UNREADABLE = -1


class RunIndex:
    """The runs of a store, by id. Threads may share one.

    An ended run begins again when somebody resumes it. Whoever does so in this process says so (`look_again`); for the
    sake of other processes some of the ended runs are looked at again each time, all of them in turn. A run that
    nobody can carry on is passed over like an ended one.
    """

    def __init__(
        self,
        store: ArtifactStore,
        read: Callable[[str], RunRecord | None],
        created_at: Callable[[str], str | None],
        ended: Callable[[RunRecord], bool],
    ) -> None:
        self._store = store
        self._read = read
        self._created_at = created_at
        self._has_ended = ended
        self._lock = threading.Lock()
        self._order: dict[str, str] = {}
        self._ended: dict[str, int] = {}

    def ids(self) -> Sequence[str]:
        """All runs, those whose record cannot be read among them, oldest first."""
        with self._lock:
            return self._ids()

    def newest_created_at(self) -> str | None:
        """When the newest run was created, None without any."""
        with self._lock:
            runs = self._ids()
            return self._order[runs[-1]] if runs else None

    def active(self) -> RunRecord | None:
        """The oldest run that has not ended and can be read."""
        with self._lock:
            self._forget_resumed()
            candidates = (self._read(run) for run in self._ids() if run not in self._ended)
            return next((record for record in candidates if record is not None and not self._remember(record)), None)

    def look_again(self, run: str) -> None:
        """The run may have begun again."""
        with self._lock:
            self._ended.pop(run, None)

    def set_aside(self, run: str) -> None:
        """Nothing can be done for the run until somebody writes an intent of it, or this process begins anew."""
        with self._lock:
            self._ended[run] = self._newest_intent(run)

    def _ids(self) -> Sequence[str]:
        """Creation times by id, in their order: they are made anew when a run came or went."""
        names = set(self._store.list("runs"))
        if self._order.keys() != names:
            come = {name: at for name in names - self._order.keys() if (at := self._created_at(name)) is not None}
            kept = {name: at for name, at in self._order.items() if name in names}
            if come or len(kept) < len(self._order):
                self._order = dict(sorted((kept | come).items(), key=lambda entry: (entry[1], entry[0])))
        return tuple(self._order)

    def _remember(self, record: RunRecord) -> bool:
        """Whether it has ended. Intents are counted first: one that comes meanwhile is found later."""
        intents = self._newest_intent(record.id)
        ended = unless_broken(lambda: self._has_ended(record), lambda _: True)
        if ended:
            self._ended[record.id] = intents
        return ended

    def _forget_resumed(self) -> None:
        """Those that were looked at longest ago; whatever has a new intent is no longer taken for ended."""
        for run in list(self._ended)[:_LOOKED_AT_AGAIN]:
            intents = self._ended.pop(run)
            if self._newest_intent(run) == intents:
                self._ended[run] = intents

    def _newest_intent(self, run: str) -> int:
        return unless_broken(lambda: newest_intent(self._store, run), lambda _: _UNREADABLE)
