"""`python -m services.controller`: the REST API, with the reconcile loop in a thread beside it."""

import sys
import threading

from services.controller.api.app import controller_app
from services.controller.loop import SWITCH_S, ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from shared.runtime.http.app import serve
from shared.runtime.shutdown import stop_on_signals
from shared.runtime.telemetry import configure_logging
from shared.store.artifacts.identity import namespace_of
from shared.store.artifacts.store import DirectoryStore
from shared.store.queue.redis_queue import RedisQueue


def main() -> None:
    """Run until told to stop."""
    settings = ControllerSettings()
    configure_logging("controller", settings.log_level)
    store = DirectoryStore(settings.store_dir)

    namespace = namespace_of(store, settings.queue_namespace)

    def queue(role: str) -> RedisQueue:
        consumer = f"controller-{role}"
        return RedisQueue(settings.redis_url, consumer=consumer, lease_s=settings.lease_s, namespace=namespace)

    sys.setswitchinterval(SWITCH_S)
    loop = ReconcileLoop(RunRepository(store, settings.prompt_limits), queue("loop"))
    stop = stop_on_signals()
    thread = threading.Thread(target=loop.run, args=(stop,), name="reconciler", daemon=True)
    thread.start()
    serve(controller_app(settings, store, queue("api"), queue("events"), loop), settings)
    stop.set()
    thread.join(timeout=5.0)


if __name__ == "__main__":
    main()
