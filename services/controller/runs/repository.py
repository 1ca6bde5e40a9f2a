"""Runs as people see them: created once, listed, followed. Everything is read from the artifact store."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import version as installed_version

import structlog

from services.controller.prompts.loading import load_prompts
from services.controller.reconciling.actions import declare
from services.controller.reconciling.observer import Observer, committed_version, intent_in_force, num_committed
from services.controller.reconciling.reconciler import Observed, succeeded
from services.controller.runs.advice import advice
from services.controller.runs.index import RunIndex
from services.controller.runs.iterations import Iterations
from services.controller.runs.progress import progress
from shared.contracts.records import (
    Intent,
    PreferencePair,
    Prompt,
)
from shared.contracts.rest.runs import (
    IterationList,
    PairPage,
    Progress,
    RunDetail,
    RunList,
    RunRecord,
    RunState,
    RunView,
    WeightsList,
    WeightsView,
)
from shared.contracts.spec import RunSpec
from shared.store.artifacts import layout
from shared.store.artifacts.requests import RequestIdentity
from shared.store.artifacts.store import ArtifactStore, DirectoryStore, MissingArtifactError, create_model, read_model
from shared.store.artifacts.tables import create_table, num_rows, read_table
from shared.store.queue.protocol import Queue
from shared.store.weights.manifests import read_manifest
from shared.store.weights.store import weights_of

log = structlog.get_logger(__name__)


class UnknownRunError(LookupError):
    """No run has this id."""


class RunRepository:
    """The runs of one artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store
        self.observer = Observer(store)
        self._iterations = Iterations(store)
        self._index = RunIndex(store, self._readable, self.ended)
        self._record = lru_cache(maxsize=1024)(self._read_record)

    def create(self, spec: RunSpec, identity: RequestIdentity | None = None) -> RunRecord:
        """Store a new run with its prompts; the run that a request made already, when it comes again.

        Raises `InvalidSpecError` for prompts that cannot be used.
        """
        at = datetime.now(UTC) if identity is None else datetime.fromtimestamp(identity.at_s, UTC)
        token = secrets.token_hex(2) if identity is None else identity.digest[:8]
        run = f"{spec.name}-{at:%Y%m%d-%H%M%S}-{token}"
        if identity is not None and self.store.exists(layout.run_record(run)):
            return self.record(run)
        prompts, skipped = load_prompts(spec)
        record = RunRecord(
            id=run,
            spec=spec,
            created_at=at.isoformat(),
            code_revision=installed_version("inpo"),
            num_prompts=len(prompts),
            skipped=skipped,
        )
        create_table(self.store, layout.prompts(run), Prompt, prompts, skipped)
        create_model(self.store, layout.run_record(run), record)
        return self.record(run)

    def record(self, run: str) -> RunRecord:
        """The run's record; `UnknownRunError` when there is none."""
        try:
            return self._record(run)
        except (MissingArtifactError, ValueError) as error:
            raise UnknownRunError(run) from error

    def known(self) -> dict[str, RunRecord | None]:
        """Every run that was created, by its id; None for one whose record cannot be read."""
        runs = [run for run in self.store.list("runs") if self.store.exists(layout.run_record(run))]
        return {run: self._readable(run) for run in runs}

    def active(self) -> RunRecord | None:
        """The oldest run that has not ended: one runs, the others wait, so no replica thrashes between weights.

        A paused run keeps its place: whoever wants the next one to go first cancels it.
        """
        return self._index.active()

    def change(self, queue: Queue, run: str, intent: Intent) -> None:
        """Write an intent of the run, unless its request did so before, and obey it from now on."""
        try:
            declare(self.store, queue, run, intent)
        finally:
            self._index.look_again(run)

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
        return RunDetail(**view, spec=record.spec, skipped=record.skipped, warnings=advice(record.spec))

    def view(self, record: RunRecord) -> RunView:
        """The run's state and progress; of a run whose artifacts are broken, what is wrong with it."""
        return self._view_among(record, self._active_id)

    def page(self, before: str | None, limit: int) -> RunList:
        """The newest runs; those that are older than `before`, where that is given. The log names what is unreadable.

        `UnknownRunError` when there is no run `before`.
        """
        ids = self._index.ids()
        if before is not None and before not in ids:
            raise UnknownRunError(before)
        end = len(ids) if before is None else ids.index(before)
        start = max(0, end - limit)
        active = cache(self._active_id)
        records = (self._readable(run) for run in reversed(ids[start:end]))
        views = [self._view_among(record, active) for record in records if record is not None]
        return RunList(runs=views, next=ids[start] if start else None)

    def iterations(self, record: RunRecord, offset: int, limit: int, *, digests: bool) -> IterationList:
        """Row 0 is the reference policy; one row a committed iteration. Digests are left out unless they are wanted."""
        return self._iterations.page(record.id, offset, limit, digests=digests)

    def pairs(self, record: RunRecord, iteration: int, offset: int, limit: int) -> PairPage:
        """Preference pairs of an iteration, half-step by half-step in shard order; only what is judged already."""
        folders = [f"{step}/pairs" for step in self._iterations.half_steps(record.id, iteration)]
        total, pairs = 0, list[PreferencePair]()
        for key in [f"{folder}/{name}" for folder in folders for name in self.store.list(folder)]:
            rows = num_rows(self.store, key)
            if total + rows > offset and len(pairs) < limit:
                start = max(0, offset - total)
                pairs += read_table(self.store, key, PreferencePair)[start : start + limit - len(pairs)]
            total += rows
        return PairPage(iteration=iteration, total=total, offset=offset, pairs=pairs)

    def weights(self, store: DirectoryStore) -> WeightsList:
        """All committed weight versions, newest run first."""
        views: list[WeightsView] = []
        for run in reversed(self._index.ids()):
            record = self.record(run)
            for number in range(num_committed(store, record.id) + 1):
                version = committed_version(store, record.id, number)
                if version is None:
                    continue
                path = weights_of(store).local(version)
                manifest = read_manifest(path)
                views.append(
                    WeightsView(
                        version=version,
                        parent=manifest.parent,
                        num_parameters=manifest.num_parameters,
                        size_bytes=sum(file.size_bytes for file in manifest.files),
                        path=str(path),
                    )
                )
        return WeightsList(weights=views)

    def _read_record(self, run: str) -> RunRecord:
        return read_model(self.store, layout.run_record(run), RunRecord)

    def _readable(self, run: str) -> RunRecord | None:
        """The record of a run, whose folder may be without one yet; the log names one that cannot be read."""
        try:
            return self.record(run)
        except UnknownRunError as error:
            if self.store.exists(layout.run_record(run)):
                log.error("run_unreadable", run=run, error=str(error.__cause__))
            return None

    def _active_id(self) -> str | None:
        active = self.active()
        return None if active is None else active.id

    def _view_among(self, record: RunRecord, active: Callable[[], str | None]) -> RunView:
        try:
            return self._view(record, active)
        except ValueError as error:
            return _broken(record, error)

    def _view(self, record: RunRecord, active: Callable[[], str | None]) -> RunView:
        observed = self.observer.observe(record.id, record.spec)
        state = _state(record, observed, active)
        committed = observed.iteration - 1
        results = (self._iterations.evaluation(record.id, number) for number in range(committed, -1, -1))
        return RunView(
            id=record.id,
            name=record.spec.name,
            state=state,
            reason=observed.intent.reason if observed.intent is not None else None,
            created_at=record.created_at,
            progress=progress(record.spec, observed, state),
            weights=self._iterations.weights(record.id, committed),
            latest=next((result for result in results if result is not None), None),
            num_prompts=record.num_prompts,
            num_skipped=len(record.skipped),
        )


def _state(record: RunRecord, observed: Observed, active: Callable[[], str | None]) -> RunState:
    by_intent: dict[str, RunState] = {"cancel": "cancelled", "failed": "failed", "pause": "paused"}
    if observed.intent is not None and observed.intent.action in by_intent:
        return by_intent[observed.intent.action]
    if succeeded(record.spec, observed):
        return "succeeded"
    return "running" if active() == record.id else "queued"


def _broken(record: RunRecord, error: ValueError) -> RunView:
    return RunView(
        id=record.id,
        name=record.spec.name,
        state="failed",
        reason=f"the run's artifacts are broken: {type(error).__name__}: {error}",
        created_at=record.created_at,
        progress=Progress(iteration=1, num_iterations=record.spec.iterations, phase="failed", done=0, total=1),
        weights=None,
        latest=None,
        num_prompts=record.num_prompts,
        num_skipped=len(record.skipped),
    )


def allowed(state: RunState, action: str) -> bool:
    """Whether a person may ask for this in this state; a failed run may be resumed once its cause is mended."""
    wanted: dict[str, tuple[RunState, ...]] = {
        "pause": ("queued", "running"),
        "resume": ("paused", "failed"),
        "cancel": ("queued", "running", "paused", "failed"),
    }
    return state in wanted[action]
