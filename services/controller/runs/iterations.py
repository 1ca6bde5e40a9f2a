"""Committed iterations as people see them. Commits are remembered without their digests, which are most of them."""

from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import TypeVar

from services.controller.measuring.skipped import skipped_of
from services.controller.prompts.spool import SHOWN
from services.controller.reconciling.faults import unless_broken
from services.controller.reconciling.observer import committed_version, num_committed
from shared.contracts.records import Commit, EvaluationResult, Skipped
from shared.contracts.rest.runs import IterationList, IterationView, SkippedPage
from shared.contracts.weights import WeightVersion
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, MissingArtifactError, read_model

T = TypeVar("T")


class Iterations:
    """The iterations of all runs of a store. Threads may share one."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._lean_commit = lru_cache(maxsize=1024)(self._read_lean_commit)
        self._skipped = lru_cache(maxsize=1024)(self._read_skipped)

    def page(self, run: str, offset: int, limit: int, *, digests: bool) -> IterationList:
        """Row 0 is the reference policy; one row a committed iteration."""
        numbers = range(num_committed(self._store, run) + 1)
        rows = [self._row(run, number, digests=digests) for number in numbers[offset : offset + limit]]
        following = offset + limit
        return IterationList(
            iterations=[row for row, _ in rows],
            skipped=[item for _, skipped in rows for item in skipped][:SHOWN],
            next=following if following < len(numbers) else None,
        )

    def skipped(self, run: str, iteration: int, offset: int, limit: int) -> SkippedPage:
        """What an iteration left out; all of it is counted once the iteration is committed."""
        problems: list[str] = []
        found = skipped_of(self._store, self.half_steps(run, iteration))
        page = or_problem(problems, lambda: list(islice(found, offset, offset + limit))) or []
        committed = self._store.exists(layout.commit(run, iteration))
        commit = or_problem(problems, lambda: self._lean_commit(run, iteration)) if committed else None
        total = offset + len(page) if commit is None else sum(commit.dropped.values())
        return SkippedPage(total=total, offset=offset, skipped=page, problem="; ".join(problems) or None)

    def weights(self, run: str, number: int) -> WeightVersion | None:
        """The weights of a version number that is committed; None while the model is not imported."""
        return self._lean_commit(run, number).weights if number else committed_version(self._store, run, 0)

    def evaluation(self, run: str, number: int) -> EvaluationResult | None:
        """The measurements of a version, once they are there."""
        key = layout.result(layout.evaluation(run, number))
        return read_model(self._store, key, EvaluationResult) if self._store.exists(key) else None

    def half_steps(self, run: str, iteration: int) -> list[str]:
        """Keys of the half-steps that are planned so far."""
        folder = layout.iteration(run, iteration)
        numbers = {name.removeprefix("half-") for name in self._store.list(folder) if name.startswith("half-")}
        return [f"{folder}/half-{number}" for number in layout.in_order(numbers)]

    def _row(self, run: str, number: int, *, digests: bool) -> tuple[IterationView, list[Skipped]]:
        """The row and what was left out; of what cannot be read, the reason."""
        problems: list[str] = []
        read = self._read_commit if digests else self._lean_commit
        commit = or_problem(problems, lambda: read(run, number)) if number else None
        # The commit counts what was left out: where that is nothing, no shard is read.
        dropped = commit is not None and commit.dropped
        skipped = or_problem(problems, lambda: self._skipped(run, number)) if dropped else None
        evaluation = or_problem(problems, lambda: self.evaluation(run, number))
        problem = "; ".join(problems) or None
        return IterationView(iteration=number, commit=commit, evaluation=evaluation, problem=problem), skipped or []

    def _read_commit(self, run: str, number: int) -> Commit:
        return read_model(self._store, layout.commit(run, number), Commit)

    def _read_lean_commit(self, run: str, number: int) -> Commit:
        return self._read_commit(run, number).model_copy(update={"digests": {}})

    def _read_skipped(self, run: str, iteration: int) -> list[Skipped]:
        return list(islice(skipped_of(self._store, self.half_steps(run, iteration)), SHOWN))


def or_problem(problems: list[str], read: Callable[[], T]) -> T | None:
    """What `read` finds; None, and a sentence more in `problems`, where that is missing or torn."""

    def noted(error: Exception) -> None:
        problems.append(f"{error} is gone" if isinstance(error, MissingArtifactError) else str(error))

    return unless_broken(read, noted)
