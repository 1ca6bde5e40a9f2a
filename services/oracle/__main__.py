"""`python -m services.oracle`: the API in the main thread, the worker of kind `judge` beside it."""

import threading

from services.oracle.api.app import oracle_app
from services.oracle.comparisons.board import ComparisonBoard
from services.oracle.judges.building import JudgeBuilder
from services.oracle.judges.registry import JudgeRegistry
from services.oracle.settings import OracleSettings
from services.oracle.worker import JudgeHandler
from shared.runtime.http.app import create_app, serve
from shared.runtime.opening import open_store
from shared.runtime.shutdown import process_ends_with, stop_on_signals
from shared.runtime.telemetry import configure_logging
from shared.runtime.threads import wait_passively
from shared.runtime.worker.loop import Limits, Worker
from shared.store.artifacts.identity import namespace_of
from shared.store.artifacts.probe import probe_of
from shared.store.artifacts.store import ArtifactStore
from shared.store.board.redis_board import RedisBoard, RedisBudget
from shared.store.queue.redis_queue import RedisQueue


def main() -> None:
    """Run until told to stop, or until the worker cannot go on; whatever the role, health and metrics are served."""
    wait_passively()
    settings = OracleSettings()
    configure_logging("oracle", settings.log_level)
    stop = stop_on_signals()
    store = open_store(settings)
    namespace = namespace_of(store, settings.queue_namespace)
    board = RedisBoard(settings.redis_url, namespace=namespace)
    judges = JudgeRegistry(
        JudgeBuilder(settings, store, board, RedisBudget(settings.redis_url, namespace=namespace)),
        max_judges=settings.oracle_max_judges,
        capacity=settings.oracle_remembered_answers,
    )
    works, ended, probe = settings.oracle_role != "api", threading.Event(), probe_of(store)

    def ready() -> dict[str, str | None]:
        return {"worker": "has ended" if ended.is_set() else None, "store": probe.trouble()}

    answers = settings.oracle_role != "worker"
    comparisons = ComparisonBoard(store, board)
    app = (
        oracle_app(settings, judges, comparisons, ready=ready)
        if answers
        else create_app("INPO oracle", settings, ready=ready)
    )
    worker = threading.Thread(
        target=_work, args=(settings, store, judges, stop, ended), name="judge-worker", daemon=True
    )
    if works:
        worker.start()
    serve(app, settings)
    if ended.is_set():
        raise SystemExit("the oracle's worker ended; the log has the reason")
    if works:
        worker.join(timeout=settings.drain_s + 1.0)


def _work(
    settings: OracleSettings,
    store: ArtifactStore,
    judges: JudgeRegistry,
    stop: threading.Event,
    ended: threading.Event,
) -> None:
    with process_ends_with(ended):
        queue = RedisQueue(
            settings.redis_url,
            consumer=settings.consumer("oracle"),
            lease_s=settings.lease_s,
            namespace=namespace_of(store, settings.queue_namespace),
        )
        handler = JudgeHandler(store, judges, retry_pause_s=settings.oracle_retry_pause_s)
        limits = Limits(lease_s=settings.lease_s, deadline_s=settings.deadline_s, drain_s=settings.drain_s)
        Worker(queue, store, ["judge"], handler, limits).run(stop)


if __name__ == "__main__":
    main()
