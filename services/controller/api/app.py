"""The controller's REST API. Every handler reads the artifact store; the reconcile loop does the work."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Path, Query

from services.controller.api import examples
from services.controller.api.events import events_router
from services.controller.api.weights import weights_router
from services.controller.loop import ReconcileLoop
from services.controller.prompts.errors import InvalidSpecError
from services.controller.runs.checks import check_models
from services.controller.runs.footprint import footprint, shortage
from services.controller.runs.progress import with_waiting
from services.controller.runs.reaching import check_reach
from services.controller.runs.repository import NotNowError, RunRepository, UnknownRunError, UnreadableRunError
from services.controller.settings import ControllerSettings
from shared.contracts.records import Intent
from shared.contracts.rest.problems import FieldError
from shared.contracts.rest.runs import IterationList, PairPage, RunDetail, RunList, SkippedPage
from shared.contracts.spec import RunSpec
from shared.contracts.work import Event
from shared.runtime.http.app import Lane, ProblemError, create_app
from shared.runtime.http.openapi import examples as described
from shared.runtime.http.openapi import refusals
from shared.runtime.http.requests import Identity
from shared.runtime.reach import Reach
from shared.store.artifacts.probe import StoreProbe, probe_of
from shared.store.artifacts.requests import RequestLedger
from shared.store.artifacts.store import ArtifactStore
from shared.store.queue.protocol import Queue, QueueUnavailableError

RUN_ID = r"^[a-z0-9][a-z0-9-]{0,120}$"
RunId = Annotated[str, Path(pattern=RUN_ID, description="A run's id.", examples=[examples.RUN])]
MAX_ROWS = 500
# Creating reads all of a run's prompts; looking reads much of the store, and waits for a Redis that is silent.
LANES = (Lane(r"POST /v1/runs", 8), Lane(r"GET /v1/runs(/[^/]+(/pairs|/iterations)?)?", 24))
UNKNOWN_RUN = {404: "No run has this id."}


def controller_app(
    settings: ControllerSettings, store: ArtifactStore, queue: Queue, events: Queue, loop: ReconcileLoop
) -> FastAPI:
    """The ASGI application. `events` is a queue connection of its own for the long reads of `/events`."""
    repository, probe = loop.repository, probe_of(store)

    def ready() -> dict[str, str | None]:
        try:
            queue.check()
            redis = None
        except QueueUnavailableError as error:
            redis = str(error)
        return {"redis": redis, "store": probe.trouble(), "reconciler": loop.last_error}

    def known(run_id: RunId) -> str:
        return _known(repository, run_id)

    app = create_app("INPO controller", settings, ready=ready, ledger=RequestLedger(store), lanes=LANES)
    app.include_router(_runs(loop, queue, probe, settings))
    app.include_router(_contents(repository))
    app.include_router(weights_router(repository, store))
    app.include_router(events_router(events, known, settings.max_streams))
    return app


def _known(repository: RunRepository, run_id: str) -> str:
    try:
        return repository.known(run_id)
    except UnknownRunError:
        raise ProblemError(404, "Unknown run", f"no run has the id {run_id!r}; GET /v1/runs lists them") from None


@contextmanager
def _conflicts() -> Generator[None]:
    """What the state of a run forbids is a 409."""
    try:
        yield
    except NotNowError as error:
        raise ProblemError(409, "Not now", str(error)) from None
    except UnreadableRunError as error:
        raise ProblemError(409, "Run unreadable", str(error)) from None


def _runs(loop: ReconcileLoop, queue: Queue, probe: StoreProbe, settings: ControllerSettings) -> APIRouter:
    repository = loop.repository
    router = APIRouter(prefix="/v1/runs", tags=["runs"])
    reach = Reach.of(settings, keyed=settings.keyring() is not None)

    @router.post("", status_code=201, openapi_extra=described(request=examples.SPEC, response=examples.RUN_DETAIL))
    def create_run(spec: RunSpec, identity: Identity) -> RunDetail:
        """Create a run. It starts at once, or when the runs before it have ended."""
        try:
            check_reach(spec, reach)
            check_models(spec, settings.served_model)
            with _conflicts():
                record = repository.create(spec, identity)
        except InvalidSpecError as error:
            wrong = FieldError(field=error.field, message=error.message)
            raise ProblemError(422, "Invalid run", str(error), errors=[wrong]) from error
        _wake(queue, record.id)
        detail = repository.detail(record)
        short = shortage(footprint(spec, record.num_prompts), probe.free_bytes())
        return detail.model_copy(update={"warnings": [*detail.warnings, *short]})

    @router.get("", openapi_extra=described(response=examples.RUN_LIST))
    def list_runs(
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
        before: Annotated[str | None, Query(pattern=RUN_ID)] = None,
    ) -> RunList:
        """Runs, newest first. `next` of a page is `before` of the one that follows it."""
        try:
            page = repository.page(before, limit)
        except UnknownRunError:
            wrong = FieldError(field="before", message=f"no run has the id {before!r}; begin again without it")
            raise ProblemError(422, "Unknown run", wrong.message, errors=[wrong]) from None
        return page.model_copy(update={"runs": [with_waiting(view, queue, loop.last_error) for view in page.runs]})

    @router.get("/{run_id}", responses=refusals(UNKNOWN_RUN), openapi_extra=described(response=examples.RUN_DETAIL))
    def get_run(run_id: RunId) -> RunDetail:
        """State, progress, newest weights and what was left out."""
        return with_waiting(repository.detail_of(_known(repository, run_id)), queue, loop.last_error)

    @router.post(
        "/{run_id}:{action}",
        responses=refusals(
            {**UNKNOWN_RUN, 409: "The run is in a state that forbids it.", 503: "Redis cannot be reached."}
        ),
        openapi_extra=described(response=examples.RUN_DETAIL),
    )
    def change_run(run_id: RunId, action: Literal["pause", "resume", "cancel"], identity: Identity) -> RunDetail:
        """Pause (what a worker has in hand is finished, all else waits), resume or cancel a run.

        Of two requests at once the second is decided on what the first left. Cancelling is final.
        """
        _known(repository, run_id)
        request = identity.digest if identity is not None else None
        with _conflicts():
            repository.change(queue, run_id, Intent(action=action, request=request))
        if action != "resume":
            queue.drop(run_id)
        return repository.detail_of(run_id)

    return router


def _contents(repository: RunRepository) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["contents"])

    @router.get(
        "/runs/{run_id}/iterations",
        responses=refusals(UNKNOWN_RUN),
        openapi_extra=described(response=examples.ITERATIONS),
    )
    def get_iterations(
        run_id: RunId,
        offset: Annotated[int, Query(ge=0, lt=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
        digests: Annotated[bool, Query(description="Also the sha256 of every artifact of an iteration.")] = False,
    ) -> IterationList:
        """Committed iterations with their measurements; row 0 is the reference policy.

        `next` of a page is `offset` of the one that follows it.
        """
        return repository.iterations(_known(repository, run_id), offset, limit, digests=digests)

    @router.get(
        "/runs/{run_id}/skipped", responses=refusals(UNKNOWN_RUN), openapi_extra=described(response=examples.SKIPPED)
    )
    def get_skipped(
        run_id: RunId,
        iteration: Annotated[int | None, Query(ge=1, le=9999)] = None,
        offset: Annotated[int, Query(ge=0, lt=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> SkippedPage:
        """What was left out, with the reasons, a page at a time.

        Rows of the prompt sets, at creation; of an `iteration` its prompts and pairs.
        """
        return repository.skipped(_known(repository, run_id), iteration, offset, limit)

    @router.get(
        "/runs/{run_id}/pairs", responses=refusals(UNKNOWN_RUN), openapi_extra=described(response=examples.PAIRS)
    )
    def get_pairs(
        run_id: RunId,
        iteration: Annotated[int, Query(ge=1, le=9999)] = 1,
        offset: Annotated[int, Query(ge=0, lt=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> PairPage:
        """Preference pairs of an iteration, in an order that never changes."""
        return repository.pairs(_known(repository, run_id), iteration, offset, limit)

    return router


def _wake(queue: Queue, run: str) -> None:
    """The run is stored already: without Redis it starts as soon as the reconciler looks again."""
    try:
        queue.publish(Event(type="run_created", run=run))
    except QueueUnavailableError:
        return
