"""`python -m services.trainer`: a worker of kind `train`."""

import sys

from pydantic import ValidationError

from services.trainer.building import build_handler
from services.trainer.settings import TrainerSettings
from shared.runtime.opening import open_store
from shared.runtime.shutdown import stop_on_signals
from shared.runtime.telemetry import configure_logging
from shared.runtime.threads import wait_passively
from shared.runtime.worker.loop import Limits, Worker
from shared.store.artifacts.identity import namespace_of
from shared.store.queue.redis_queue import RedisQueue


def main() -> None:
    """Run until told to stop."""
    wait_passively()
    try:
        settings = TrainerSettings()
    except ValidationError as error:
        reasons = "; ".join(": ".join([*map(str, found["loc"]), found["msg"]]) for found in error.errors())
        sys.exit(f"the trainer's settings (INPO_…) cannot be used: {reasons}")
    configure_logging("trainer", settings.log_level)
    stop = stop_on_signals()
    store = open_store(settings)
    queue = RedisQueue(
        settings.redis_url,
        consumer=settings.consumer("trainer"),
        lease_s=settings.lease_s,
        namespace=namespace_of(store, settings.queue_namespace),
    )
    limits = Limits(lease_s=settings.lease_s, deadline_s=settings.deadline_s, drain_s=settings.drain_s)
    Worker(queue, store, ["train"], build_handler(settings, store), limits).run(stop)


if __name__ == "__main__":
    main()
