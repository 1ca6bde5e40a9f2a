"""`python -m services.policy`: completions in the main thread, worker loops beside it, over one engine."""

import threading

from services.policy.api.app import policy_app
from services.policy.building import build_parts, run_loops
from services.policy.settings import PolicySettings
from services.policy.worker import GenerateHandler
from shared.runtime.http.app import check_exposure, serve
from shared.runtime.opening import open_store
from shared.runtime.shutdown import process_ends_with, stop_on_signals
from shared.runtime.telemetry import configure_logging
from shared.runtime.threads import wait_passively
from shared.store.artifacts.probe import probe_of
from shared.store.artifacts.store import ArtifactStore


def main() -> None:
    """Run until told to stop, or until the worker cannot go on."""
    wait_passively()
    settings = PolicySettings()
    configure_logging("policy", settings.log_level)
    check_exposure(settings)
    stop, ended = stop_on_signals(), threading.Event()
    store = open_store(settings)
    parts, probe = build_parts(settings, store), probe_of(store)

    def ready() -> dict[str, str | None]:
        worker = "has ended" if ended.is_set() else None
        return {"worker": worker, "store": probe.trouble(), "engine": parts.gate.trouble}

    app = policy_app(settings, parts.completions, ready=ready)
    arguments = (settings, store, parts.handler, stop, ended)
    worker = threading.Thread(target=_work, args=arguments, name="generate-worker", daemon=True)
    worker.start()
    serve(app, settings)
    if ended.is_set():
        raise SystemExit("the policy's worker ended; the log has the reason")
    stop.set()
    worker.join(timeout=settings.drain_s + 1.0)


def _work(
    settings: PolicySettings,
    store: ArtifactStore,
    handler: GenerateHandler,
    stop: threading.Event,
    ended: threading.Event,
) -> None:
    with process_ends_with(ended):
        run_loops(settings, store, handler, stop)


if __name__ == "__main__":
    main()
