"""Preference pairs a page at a time: as much is read as is shown."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from services.controller.runs.iterations import or_problem
from shared.contracts.records import Commit, PreferencePair
from shared.contracts.rest.runs import PairPage
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, read_model
from shared.store.artifacts.tables import num_rows, read_table

_SHARDS_REMEMBERED = 1 << 16


class Pairs:
    """The pairs of all runs of a store. How many a shard holds never changes, and is remembered.

    Threads may share one.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._num_rows = lru_cache(maxsize=_SHARDS_REMEMBERED)(self._count)

    def page(self, run: str, iteration: int, steps: Iterable[str], offset: int, limit: int) -> PairPage:
        """Half-step by half-step in shard order; a shard that cannot be read is left out and named."""
        problems: list[str] = []
        pairs: list[PreferencePair] = []
        total, start = self._committed(run, iteration), 0
        for key in self._keys(steps):
            if len(pairs) == limit and total is not None:
                break
            rows = or_problem(problems, lambda key=key: self._num_rows(key)) or 0
            if start + rows > offset and len(pairs) < limit:
                found = or_problem(problems, lambda key=key: read_table(self._store, key, PreferencePair)) or []
                first = max(0, offset - start)
                pairs += found[first : first + limit - len(pairs)]
            start += rows
        return PairPage(
            iteration=iteration,
            total=start if total is None else total,
            offset=offset,
            pairs=pairs,
            problem="; ".join(problems) or None,
        )

    def _committed(self, run: str, iteration: int) -> int | None:
        """How many pairs the iteration has; None while more may come, or where the commit cannot be read."""
        key = layout.commit(run, iteration)
        if not self._store.exists(key):
            return None
        commit = or_problem([], lambda: read_model(self._store, key, Commit))
        return None if commit is None else commit.num_pairs

    def _keys(self, steps: Iterable[str]) -> Sequence[str]:
        folders = [f"{step}/pairs" for step in steps]
        return [f"{folder}/{name}" for folder in folders for name in layout.in_order(self._store.list(folder))]

    def _count(self, key: str) -> int:
        return num_rows(self._store, key)
