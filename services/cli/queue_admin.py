"""`inpo queue`: what waits, what was given up, and trying the latter again."""

from dataclasses import dataclass
from pathlib import Path

from services.cli.addresses import public
from services.cli.client import Api
from services.cli.failures import UserError
from shared.contracts.records import DeadLetter
from shared.contracts.rest.runs import RunDetail
from shared.contracts.work import Attempt, Kind, WorkItem
from shared.runtime.opening import named_store
from shared.runtime.settings import Settings
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, read_model
from shared.store.queue.protocol import Depth, Queue, QueueUnavailableError


@dataclass(frozen=True, slots=True)
class Dead:
    """A dead letter and the run that it belongs to."""

    run: str
    key: str
    letter: DeadLetter


def existing_store(store_dir: Path) -> ArtifactStore:
    """The artifact store of INPO_STORE_URL, else of a directory that has one; `UserError` names the remedy."""
    settings = Settings(store_dir=store_dir)
    if settings.store_url is None and not store_dir.is_dir():
        raise UserError(
            f"{store_dir} does not exist: name the artifact store with --store-dir, INPO_STORE_DIR or INPO_STORE_URL"
        )
    return named_store(settings)


def queue_state(queue: Queue, redis_url: str) -> tuple[dict[Kind, Depth], dict[Kind, list[tuple[WorkItem, Attempt]]]]:
    """Depth and outstanding items of every kind of work."""
    try:
        depths = queue.depths()
        return depths, {kind: queue.items(kind) for kind in depths}
    except QueueUnavailableError as error:
        place = public(redis_url) or "its address"
        raise UserError(
            f"cannot reach Redis at {place} ({error}): name it with --redis-url or INPO_REDIS_URL"
        ) from None


def dead_letters(store: ArtifactStore, run: str | None = None) -> list[Dead]:
    """All dead letters of one run, or of all."""
    runs = store.list("runs") if run is None else [run]
    return [
        Dead(name, key, read_model(store, key, DeadLetter))
        for name in runs
        for step in _steps(store, name)
        for key in (f"{step}/dead/{file}" for file in store.list(f"{step}/dead"))
    ]


def retry(store: ArtifactStore, api: Api, run: str) -> tuple[RunDetail, list[Dead]]:
    """Forget the dead letters of a failed run and resume it: the reconciler asks for the missing work again."""
    view = api.run(run)
    if view.state != "failed":
        raise UserError(f"run {run} is {view.state}: only a failed run has work to try again")
    dead = dead_letters(store, run)
    if not dead:
        reason = view.reason or "unknown"
        raise UserError(
            f"run {run} has no dead letters in {store} (it failed because: {reason}); "
            f"mend the cause, then `inpo resume {run}`"
        )
    for item in dead:
        store.remove(item.key)
    return api.change(run, "resume"), dead


def _steps(store: ArtifactStore, run: str) -> list[str]:
    halves = [
        f"{layout.iterations(run)}/{iteration}/{half}"
        for iteration in store.list(layout.iterations(run))
        for half in store.list(f"{layout.iterations(run)}/{iteration}")
        if half.startswith("half-")
    ]
    evaluations = f"{layout.run(run)}/evaluations"
    return [layout.base(run), *halves, *(f"{evaluations}/{number}" for number in store.list(evaluations))]
