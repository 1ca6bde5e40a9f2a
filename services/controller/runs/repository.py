"""Runs as people see them: created once, listed, followed. Everything is read from the artifact store."""

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib.metadata import version as installed_version
from typing import NoReturn

import structlog

from services.controller.prompts.limits import PromptLimits
from services.controller.prompts.loading import gather
from services.controller.prompts.spool import SHOWN
from services.controller.reconciling.actions import announce, declare, declared, perform
from services.controller.reconciling.faults import described, unless_broken
from services.controller.reconciling.observer import Observer, num_committed
from services.controller.reconciling.reconciler import Fail, Observed, succeeded
from services.controller.runs.advice import advice
from services.controller.runs.ids import ID_BYTES, date_in, id_of_request, parsed_date, run_id
from services.controller.runs.index import RunIndex
from services.controller.runs.iterations import Iterations, or_problem
from services.controller.runs.listed_weights import committed_weights
from services.controller.runs.pairs import Pairs
from services.controller.runs.progress import progress
from services.controller.runs.unusable import broken_view, num_skipped, unreadable_view
from shared.contracts.records import EvaluationResult, Intent, Skipped
from shared.contracts.rest.runs import (
    IterationList,
    PairPage,
    RunDetail,
    RunList,
    RunRecord,
    RunState,
    RunView,
    SkippedPage,
    WeightsList,
)
from shared.contracts.spec import RunSpec
from shared.store.artifacts import layout
from shared.store.artifacts.requests import RequestIdentity
from shared.store.artifacts.runs import intent_in_force, intent_of, newest_intent
from shared.store.artifacts.store import (
    ArtifactStore,
    CorruptArtifactError,
    DirectoryStore,
    MissingArtifactError,
    create_model,
    read_model,
)
from shared.store.artifacts.tables import num_rows, read_page
from shared.store.queue.protocol import Queue

log = structlog.get_logger(__name__)

# What a run has before it has a record: without more it is being made, or never was.
_BEFORE_ITS_RECORD = frozenset(["prompts.parquet", "skipped.parquet"])


class UnknownRunError(LookupError):
    """No run has this id."""


class UnreadableRunError(LookupError):
    """The run is there, but its record is not, or says nothing; the message says why."""


class NotNowError(RuntimeError):
    """The run is in a state that forbids what was asked; the message says which."""


class RunRepository:
    """The runs of one artifact store."""

    def __init__(
        self, store: ArtifactStore, limits: PromptLimits | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.store = store
        self._limits = limits or PromptLimits()
        self.observer = Observer(store)
        self._iterations = Iterations(store)
        self._pairs = Pairs(store)
        self._clock = clock
        self._index = RunIndex(store, self._readable, self._created_at, self.ended)
        self._record = lru_cache(maxsize=1024)(self._read_record)
        self._creating = threading.Lock()

    def create(self, spec: RunSpec, identity: RequestIdentity | None = None) -> RunRecord:
        """Store a new run with its prompts; the run that a request made already, when it comes again.

        It is dated when it is complete, and after every run that was there before, so that it goes before none of
        them. Raises `InvalidSpecError` for prompts that cannot be used.
        """
        if identity is not None and self.store.exists(layout.run_record(id_of_request(spec, identity))):
            return self.record(id_of_request(spec, identity))
        loaded = gather(spec, self._limits, self.store.root if isinstance(self.store, DirectoryStore) else None)
        while True:
            run = self._new_id(spec) if identity is None else id_of_request(spec, identity)
            # Taken by somebody else, unless it is the request's own: then an earlier try of it got this far.
            if self.store.create(layout.prompts(run), loaded.prompts) or identity is not None:
                self.store.create(layout.skipped(run), loaded.skipped)
                return self._recorded(run, spec)

    def _new_id(self, spec: RunSpec) -> str:
        return run_id(spec.name, self._clock(), secrets.token_hex(ID_BYTES))

    def _recorded(self, run: str, spec: RunSpec) -> RunRecord:
        """The record of what is stored, whichever try of the request stored it."""
        num_prompts = num_rows(self.store, layout.prompts(run))
        num_skipped, skipped = read_page(self.store, layout.skipped(run), Skipped, 0, SHOWN)
        with self._creating:
            record = RunRecord(
                id=run,
                spec=spec,
                created_at=self._next_date(),
                code_revision=installed_version("inpo"),
                num_prompts=num_prompts,
                skipped=skipped,
                num_skipped=num_skipped,
            )
            create_model(self.store, layout.run_record(run), record)
        return self.record(run)

    def _next_date(self) -> str:
        """Now; after the newest run also where the clock was ahead when that was made, and is right again."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        newest = parsed_date(self._index.newest_created_at())
        after = now if newest is None else max(now, newest + timedelta(microseconds=1))
        return after.isoformat(timespec="microseconds")

    def record(self, run: str) -> RunRecord:
        """The run's record; `UnknownRunError` when there is no such run, `UnreadableRunError` when that is torn."""

        def unreadable(error: Exception) -> NoReturn:
            if not isinstance(error, MissingArtifactError):
                raise UnreadableRunError(str(error)) from error
            if not self._was_made(run):
                raise UnknownRunError(run) from error
            raise UnreadableRunError(f"{error} is gone") from error

        return unless_broken(lambda: self._record(run), unreadable)

    def known(self, run: str) -> str:
        """The id itself; `UnknownRunError` when no run has it. One that cannot be read is known."""
        with suppress(UnreadableRunError):
            self.record(run)
        return run

    def records(self) -> dict[str, RunRecord | None]:
        """Every run that was created, by its id; None for one whose record cannot be read."""
        runs = [run for run in self.store.list("runs") if self.store.exists(layout.run_record(run))]
        return {run: self._readable(run) for run in runs}

    def active(self) -> RunRecord | None:
        """The oldest run that has not ended: one runs, the others wait, so no replica thrashes between weights.

        A paused run keeps its place: whoever wants the next one to go first cancels it.
        """
        return self._index.active()

    def change(self, queue: Queue, run: str, intent: Intent) -> None:
        """Write an intent of the run, unless its request did so before, and obey it from now on.

        `NotNowError` in a state that forbids it. Of two at once the second is decided on what the first left.
        """
        record = self.record(run)
        try:
            while not declared(self.store, run, intent.request):
                after = newest_intent(self.store, run)
                state = self.view(record).state
                if not allowed(state, intent.action):
                    raise NotNowError(f"cannot {intent.action} a run that is {state}")
                if declare(self.store, run, intent, after):
                    break
        finally:
            self._index.look_again(run)
        announce(queue, run, intent)

    def give_up(self, queue: Queue, record: RunRecord, reason: str) -> None:
        """End a run whose artifacts are broken, unless somebody stopped it meanwhile.

        One whose end cannot be written either is set aside: in neither case does it hold up another.
        """

        def fail() -> None:
            after = newest_intent(self.store, record.id)
            intent = intent_of(self.store, record.id, after)
            if intent is None or intent.action == "resume":
                perform(self.store, queue, record, Fail(reason, after))

        def set_aside(error: Exception) -> None:
            log.error("run_set_aside", run=record.id, error=described(error), exc_info=error)
            self._index.set_aside(record.id)

        unless_broken(fail, set_aside)

    def ended(self, record: RunRecord) -> bool:
        """Whether the run succeeded, failed or was cancelled."""
        intent = intent_in_force(self.store, record.id)
        if intent is not None and intent.action in ("cancel", "failed"):
            return True
        committed = num_committed(self.store, record.id)
        if committed < record.spec.iterations:
            return False
        if record.spec.evaluation.num_prompts == 0:
            return True
        versions = range(committed + 1)
        return all(self.store.exists(layout.result(layout.evaluation(record.id, version))) for version in versions)

    def detail(self, record: RunRecord) -> RunDetail:
        """The run's view with the spec and the prompts that were left out."""
        view = self.view(record).model_dump()
        return RunDetail(**view, spec=record.spec, skipped=record.skipped[:SHOWN], warnings=advice(record.spec))

    def detail_of(self, run: str) -> RunDetail:
        """As `detail`; of a run whose record cannot be read, that. `UnknownRunError` when there is no such run."""
        try:
            return self.detail(self.record(run))
        except UnreadableRunError as error:
            return RunDetail(**unreadable_view(run, str(error)).model_dump(), spec=None, skipped=[])

    def view(self, record: RunRecord) -> RunView:
        """The run's state and progress; of a run whose artifacts are broken, what is wrong with it."""
        return self._view_among(record, self._active_id)

    def page(self, before: str | None, limit: int) -> RunList:
        """The newest runs; those that are older than `before`, where that is given. One may be unreadable.

        `UnknownRunError` when there is no run `before`.
        """
        ids = self._index.ids()
        if before is not None and before not in ids:
            raise UnknownRunError(before)
        end = len(ids) if before is None else ids.index(before)
        start = max(0, end - limit)
        active = cache(self._active_id)
        views = (self._view_of(run, active) for run in reversed(ids[start:end]))
        return RunList(runs=[view for view in views if view is not None], next=ids[start] if start else None)

    def iterations(self, run: str, offset: int, limit: int, *, digests: bool) -> IterationList:
        """Row 0 is the reference policy; one row a committed iteration. Digests are left out unless they are wanted."""
        return self._iterations.page(run, offset, limit, digests=digests)

    def pairs(self, run: str, iteration: int, offset: int, limit: int) -> PairPage:
        """Preference pairs of an iteration, half-step by half-step in shard order; only what is judged already."""
        return self._pairs.page(run, iteration, self._iterations.half_steps(run, iteration), offset, limit)

    def skipped(self, run: str, iteration: int | None, offset: int, limit: int) -> SkippedPage:
        """What was left out: rows at creation or, of an iteration, prompts and pairs."""
        if iteration is not None:
            return self._iterations.skipped(run, iteration, offset, limit)
        key, problems = layout.skipped(run), list[str]()
        if self.store.exists(key):
            found = or_problem(problems, lambda: read_page(self.store, key, Skipped, offset, limit))
        else:  # of an older release, whose records name every row
            record = or_problem(problems, lambda: self._read_record(run))
            listed = record.skipped if record is not None else []
            found = len(listed), listed[offset : offset + limit]
        total, skipped = found or (0, [])
        return SkippedPage(total=total, offset=offset, skipped=skipped, problem="; ".join(problems) or None)

    def weights(self) -> WeightsList:
        """All committed weight versions, newest run first."""
        return committed_weights(self.store, reversed(self._index.ids()))

    def _read_record(self, run: str) -> RunRecord:
        record = read_model(self.store, layout.run_record(run), RunRecord)
        if record.id != run:
            raise CorruptArtifactError(f"{layout.run_record(run)} is that of {record.id}")
        return record

    def _was_made(self, run: str) -> bool:
        """Whether more is there of a run than what comes before its record."""
        return not _BEFORE_ITS_RECORD.issuperset(self.store.list(layout.run(run)))

    def _readable(self, run: str) -> RunRecord | None:
        """The record of a run that can be read."""
        try:
            return self.record(run)
        except (UnknownRunError, UnreadableRunError):
            return None

    def _created_at(self, run: str) -> str | None:
        """When the run was created; as its id says where its record does not. None for one that is not made yet."""
        try:
            return self.record(run).created_at
        except UnknownRunError:
            return None
        except UnreadableRunError as error:
            log.error("run_unreadable", run=run, error=str(error))
            return date_in(run)

    def _active_id(self) -> str | None:
        active = self.active()
        return None if active is None else active.id

    def _view_of(self, run: str, active: Callable[[], str | None]) -> RunView | None:
        try:
            return self._view_among(self.record(run), active)
        except UnreadableRunError as error:
            return unreadable_view(run, str(error))
        except UnknownRunError:  # it went meanwhile
            return None

    def _view_among(self, record: RunRecord, active: Callable[[], str | None]) -> RunView:
        return unless_broken(lambda: self._view(record, active), lambda error: broken_view(record, error))

    def _view(self, record: RunRecord, active: Callable[[], str | None]) -> RunView:
        observed = self.observer.observe(record.id, record.spec)
        state = _state(record, observed, active)
        committed = observed.iteration - 1
        problems: list[str] = []
        weights = or_problem(problems, lambda: self._iterations.weights(record.id, committed))
        latest = or_problem(problems, lambda: self._latest(record.id, committed))
        reason = observed.intent.reason if observed.intent is not None else None
        return RunView(
            id=record.id,
            name=record.spec.name,
            state=state,
            reason=reason or "; ".join(problems) or None,
            created_at=record.created_at,
            progress=progress(record.spec, observed, state),
            weights=weights,
            latest=latest,
            num_prompts=record.num_prompts,
            num_skipped=num_skipped(record),
        )

    def _latest(self, run: str, committed: int) -> EvaluationResult | None:
        """The newest measurements that are there."""
        results = (self._iterations.evaluation(run, number) for number in range(committed, -1, -1))
        return next((result for result in results if result is not None), None)


def _state(record: RunRecord, observed: Observed, active: Callable[[], str | None]) -> RunState:
    by_intent: dict[str, RunState] = {"cancel": "cancelled", "failed": "failed", "pause": "paused"}
    if observed.intent is not None and observed.intent.action in by_intent:
        return by_intent[observed.intent.action]
    if succeeded(record.spec, observed):
        return "succeeded"
    return "running" if active() == record.id else "queued"


def allowed(state: RunState, action: str) -> bool:
    """Whether a person may ask for this in this state; a failed run may be resumed once its cause is mended."""
    wanted: dict[str, tuple[RunState, ...]] = {
        "pause": ("queued", "running"),
        "resume": ("paused", "failed"),
        "cancel": ("queued", "running", "paused", "failed"),
    }
    return state in wanted[action]
