"""Runs as people see them: created once, listed, followed. Everything is read from the artifact store."""

import secrets
from datetime import UTC, datetime
from functools import lru_cache, partial
from importlib.metadata import version as installed_version

import structlog

from services.controller.measuring.skipped import skipped_of, without_responses
from services.controller.prompts.loading import load_prompts
from services.controller.reconciling.observer import committed_version, intent_in_force, num_committed, observe
from services.controller.reconciling.reconciler import Observed, succeeded
from services.controller.runs.advice import advice
from shared.contracts.records import (
    Commit,
    EvaluationResult,
    PreferencePair,
    Prompt,
    Skipped,
)
from shared.contracts.rest.runs import (
    IterationList,
    IterationView,
    PairPage,
    Phase,
    Progress,
    RunDetail,
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
from shared.store.weights.directories import read_manifest
from shared.store.weights.store import weights_of

log = structlog.get_logger(__name__)


class UnknownRunError(LookupError):
    """No run has this id."""


class RunRepository:
    """The runs of one artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store
        self._record = lru_cache(maxsize=1024)(self._read_record)
        self._skipped = lru_cache(maxsize=1024)(self._read_skipped)
        self._without_responses = lru_cache(maxsize=65_536)(partial(without_responses, store))

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

    def records(self) -> list[RunRecord]:
        """All runs that can be read, oldest first; the log names the others."""
        found: list[RunRecord] = []
        for name in self.store.list("runs"):
            try:
                found.append(self.record(name))
            except UnknownRunError as error:
                if self.store.exists(layout.run_record(name)):
                    log.error("run_unreadable", run=name, error=str(error.__cause__))
        return sorted(found, key=lambda record: (record.created_at, record.id))

    def active(self) -> RunRecord | None:
        """The oldest run that has not ended: one runs, the others wait, so no replica thrashes between weights.

        A paused run keeps its place: whoever wants the next one to go first cancels it.
        """
        return next((record for record in self.records() if not self.ended(record)), None)

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
        return RunDetail(
            **self.view(record).model_dump(),
            spec=record.spec,
            skipped=record.skipped,
            num_without_responses=self._num_without_responses(record.id),
            warnings=advice(record.spec),
        )

    def view(self, record: RunRecord) -> RunView:
        """The run's state and progress; of a run whose artifacts are broken, what is wrong with it."""
        try:
            return self._view(record)
        except ValueError as error:
            return _broken(record, error)

    def _view(self, record: RunRecord) -> RunView:
        observed = observe(self.store, record.id, record.spec, frozenset())
        state = self._state(record, observed)
        committed = observed.iteration - 1
        results = (self._evaluation(record.id, number) for number in range(committed, -1, -1))
        return RunView(
            id=record.id,
            name=record.spec.name,
            state=state,
            reason=observed.intent.reason if observed.intent is not None else None,
            created_at=record.created_at,
            progress=_progress(record.spec, observed, state),
            weights=committed_version(self.store, record.id, committed),
            latest=next((result for result in results if result is not None), None),
            num_prompts=record.num_prompts,
            num_skipped=len(record.skipped),
        )

    def iterations(self, record: RunRecord) -> IterationList:
        """Row 0 is the reference policy; one row a committed iteration."""
        numbers = range(num_committed(self.store, record.id) + 1)
        rows = [
            IterationView(
                iteration=number,
                commit=read_model(self.store, layout.commit(record.id, number), Commit) if number else None,
                evaluation=self._evaluation(record.id, number),
            )
            for number in numbers
        ]
        skipped = [item for number in numbers if number for item in self._skipped(record.id, number)]
        return IterationList(iterations=rows, skipped=skipped)

    def pairs(self, record: RunRecord, iteration: int, offset: int, limit: int) -> PairPage:
        """Preference pairs of an iteration, half-step by half-step in shard order; only what is judged already."""
        folders = [f"{step}/pairs" for step in self._half_steps(record.id, iteration)]
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
        for record in reversed(self.records()):
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

    def _state(self, record: RunRecord, observed: Observed) -> RunState:
        by_intent: dict[str, RunState] = {"cancel": "cancelled", "failed": "failed", "pause": "paused"}
        if observed.intent is not None and observed.intent.action in by_intent:
            return by_intent[observed.intent.action]
        if succeeded(record.spec, observed):
            return "succeeded"
        active = self.active()
        return "running" if active is not None and active.id == record.id else "queued"

    def _evaluation(self, run: str, number: int) -> EvaluationResult | None:
        key = layout.result(layout.evaluation(run, number))
        return read_model(self.store, key, EvaluationResult) if self.store.exists(key) else None

    def _read_skipped(self, run: str, iteration: int) -> list[Skipped]:
        return skipped_of(self.store, self._half_steps(run, iteration))

    def _num_without_responses(self, run: str) -> int | None:
        evaluations = layout.evaluations(run)
        steps = [f"{evaluations}/{name}" for name in self.store.list(evaluations)]
        numbers = range(1, len(self.store.list(layout.iterations(run))) + 1)
        steps += [step for number in numbers for step in self._half_steps(run, number)]
        shards = [f"{step}/rollouts/{name}" for step in steps for name in self.store.list(f"{step}/rollouts")]
        try:
            return len(frozenset[str]().union(*(self._without_responses(shard) for shard in shards)))
        except ValueError:
            return None

    def _half_steps(self, run: str, iteration: int) -> list[str]:
        """Keys of the half-steps that are planned so far."""
        folder = layout.iteration(run, iteration)
        return [f"{folder}/{name}" for name in self.store.list(folder) if name.startswith("half-")]


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


def _progress(spec: RunSpec, observed: Observed, state: RunState) -> Progress:
    phase, done, total = _phase(spec, observed, state)
    return Progress(
        iteration=min(observed.iteration, spec.iterations),
        num_iterations=spec.iterations,
        half=observed.half,
        num_halves=len(observed.half_steps),
        phase=phase,
        done=done,
        total=total,
        dead=sum(len(step.dead) for step in observed.steps),
    )


def _phase(spec: RunSpec, observed: Observed, state: RunState) -> tuple[Phase, int, int]:
    step = observed.half_step
    if state == "failed":
        return "failed", 0, 1
    if not observed.base.trained:
        return "preparing", 0, 1
    if observed.iteration > spec.iterations:
        concluded = sum(evaluation.concluded for evaluation in observed.evaluations)
        done = concluded == len(observed.evaluations)
        return ("committed" if done else "evaluating"), concluded, len(observed.evaluations)
    if not step.all_generated:
        return "generating", len(step.rollouts), step.num_shards
    if not step.all_judged:
        return "judging", len(step.judged), step.num_shards
    return ("publishing" if step.trained else "training"), int(step.trained), 1
