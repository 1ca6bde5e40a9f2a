"""`python -m services.controller`: the REST API, with the reconcile loop in a thread beside it."""

import sys
import threading

from services.controller.api.app import controller_app
from services.controller.collecting import Collector
from services.controller.loop import SWITCH_S, ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from shared.runtime.http.app import serve
from shared.runtime.opening import open_store
from shared.runtime.shutdown import process_ends_with, stop_on_signals
from shared.runtime.telemetry import configure_logging
from shared.store.artifacts.identity import namespace_of
from shared.store.artifacts.store import DirectoryStore
from shared.store.queue.redis_queue import RedisQueue


def main() -> None:
    """Run until told to stop, or until the reconciler cannot go on."""
    settings = ControllerSettings()
    configure_logging("controller", settings.log_level)
    store = open_store(settings)

    namespace = namespace_of(store, settings.queue_namespace)

    def queue(role: str) -> RedisQueue:
        consumer = f"controller-{role}"
        return RedisQueue(settings.redis_url, consumer=consumer, lease_s=settings.lease_s, namespace=namespace)

    sys.setswitchinterval(SWITCH_S)
    loop = ReconcileLoop(RunRepository(store, settings.prompt_limits), queue("loop"))
    stop, ended = stop_on_signals(), threading.Event()
    thread = threading.Thread(target=_reconcile, args=(loop, stop, ended), name="reconciler", daemon=True)
    thread.start()
    if isinstance(store, DirectoryStore):  # what lies in a bucket unused is its lifecycle rules' affair
        collector = Collector(loop.repository, store)
        threading.Thread(target=_collect, args=(collector, stop, ended), name="collector", daemon=True).start()
    serve(controller_app(settings, store, queue("api"), queue("events"), loop), settings)
    if ended.is_set():
        raise SystemExit("a loop of the controller ended; the log has the reason")
    stop.set()
    thread.join(timeout=5.0)


def _reconcile(loop: ReconcileLoop, stop: threading.Event, ended: threading.Event) -> None:
    with process_ends_with(ended):
        loop.run(stop)


def _collect(collector: Collector, stop: threading.Event, ended: threading.Event) -> None:
    with process_ends_with(ended):
        collector.run(stop)


if __name__ == "__main__":
    main()
