"""The controller's REST API. Every handler reads the artifact store; the reconcile loop does the work."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.controller.actions import declare
from services.controller.checks import check_models
from services.controller.loop import ReconcileLoop
from services.controller.prompts import InvalidSpecError
from services.controller.runs import RunRepository, UnknownRunError, allowed, intent_of
from services.controller.settings import ControllerSettings
from services.controller.waiting import with_waiting
from shared.contracts.problems import FieldError
from shared.contracts.runs import IterationList, PairPage, RunDetail, RunList, RunRecord, WeightsList
from shared.contracts.spec import RunSpec
from shared.contracts.work import Event
from shared.runtime.http import ProblemError, create_app
from shared.store.artifacts import DirectoryStore
from shared.store.queue import Queue, QueueUnavailableError

RunId = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,80}$")]

SSE_WAIT_S = 10.0
_EVENT_ID = re.compile(r"^\d+(-\d+)?$")


def controller_app(
    settings: ControllerSettings, store: DirectoryStore, queue: Queue, events: Queue, loop: ReconcileLoop
) -> FastAPI:
    """The ASGI application. `events` is a queue connection of its own for the long reads of `/events`."""
    repository = RunRepository(store)

    def ready() -> dict[str, str | None]:
        try:
            queue.depths()
            redis = None
        except QueueUnavailableError as error:
            redis = str(error)
        return {"redis": redis, "reconciler": loop.last_error}

    app = create_app("INPO controller", settings, ready=ready)
    app.include_router(_runs(repository, queue))
    app.include_router(_contents(repository, store))
    app.include_router(_events(repository, events))
    return app


def _record(repository: RunRepository, run_id: str) -> RunRecord:
    try:
        return repository.record(run_id)
    except UnknownRunError:
        raise ProblemError(404, "Unknown run", f"no run has the id {run_id!r}; GET /v1/runs lists them") from None


def _runs(repository: RunRepository, queue: Queue) -> APIRouter:
    router = APIRouter(prefix="/v1/runs", tags=["runs"])

    @router.post("", status_code=201)
    def create_run(spec: RunSpec) -> RunDetail:
        """Create a run. It starts at once, or when the runs before it have ended."""
        try:
            check_models(spec)
            record = repository.create(spec)
        except InvalidSpecError as error:
            wrong = FieldError(field=error.field, message=error.message)
            raise ProblemError(422, "Invalid run", str(error), errors=[wrong]) from error
        _wake(queue, record.id)
        return repository.detail(record)

    @router.get("")
    def list_runs() -> RunList:
        """All runs, newest first."""
        return RunList(runs=[repository.view(record) for record in reversed(repository.records())])

    @router.get("/{run_id}")
    def get_run(run_id: RunId) -> RunDetail:
        """State, progress, newest weights and what was left out."""
        return with_waiting(repository.detail(_record(repository, run_id)), queue)

    @router.post("/{run_id}:{action}")
    def change_run(run_id: RunId, action: Literal["pause", "resume", "cancel"]) -> RunDetail:
        """Pause (what a worker has in hand is finished, all else waits), resume or cancel a run."""
        record = _record(repository, run_id)
        state = repository.view(record).state
        if not allowed(state, action):
            raise ProblemError(409, "Not now", f"cannot {action} a run that is {state}")
        declare(repository.store, queue, run_id, intent_of(action))
        if action != "resume":
            queue.drop(run_id)
        return repository.detail(record)

    return router


def _contents(repository: RunRepository, store: DirectoryStore) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["contents"])

    @router.get("/runs/{run_id}/iterations")
    def get_iterations(run_id: RunId) -> IterationList:
        """Committed iterations with their measurements; row 0 is the reference policy."""
        return repository.iterations(_record(repository, run_id))

    @router.get("/runs/{run_id}/pairs")
    def get_pairs(
        run_id: RunId,
        iteration: Annotated[int, Query(ge=1)] = 1,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> PairPage:
        """Preference pairs of an iteration, in an order that never changes."""
        return repository.pairs(_record(repository, run_id), iteration, offset, limit)

    @router.get("/weights")
    def get_weights() -> WeightsList:
        """Committed weight versions: ordinary Hugging Face directories."""
        return repository.weights(store)

    return router


def _events(repository: RunRepository, queue: Queue) -> APIRouter:
    router = APIRouter(prefix="/v1/runs", tags=["runs"])

    def known(run_id: RunId) -> str:
        return _record(repository, run_id).id

    @router.get("/{run_id}/events", response_class=EventSourceResponse)
    async def get_events(
        run_id: Annotated[str, Depends(known)],
        request: Request,
        last_seen: Annotated[str | None, Depends(_last_seen)],
    ) -> AsyncIterator[ServerSentEvent]:
        """Live events of a run (server-sent). `Last-Event-ID` goes on where a connection broke."""
        cursor = last_seen or await asyncio.to_thread(queue.last_event)
        while not await request.is_disconnected():
            for identity, event in await asyncio.to_thread(queue.events, cursor, wait_s=SSE_WAIT_S):
                cursor = identity
                if event.run == run_id:
                    yield ServerSentEvent(id=identity, event=event.type, data=event.data)

    return router


def _last_seen(last_event_id: Annotated[str | None, Header()] = None) -> str | None:
    """The client's `Last-Event-ID`; refused before the stream begins, because afterwards there is no status to send."""
    if last_event_id is not None and not _EVENT_ID.match(last_event_id):
        raise ProblemError(400, "Bad Last-Event-ID", f"{last_event_id!r} is not the id of an event of this stream")
    return last_event_id


def _wake(queue: Queue, run: str) -> None:
    """The run is stored already: without Redis it starts as soon as the reconciler looks again."""
    try:
        queue.publish(Event(type="run_created", run=run))
    except QueueUnavailableError:
        return
