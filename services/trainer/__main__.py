"""`python -m services.trainer`: one persistent process that trains, its models kept between iterations."""

import importlib
from collections.abc import Callable
from typing import cast

from services.trainer.settings import TrainerSettings
from shared.runtime.shutdown import stop_on_signals
from shared.runtime.telemetry import configure_logging
from shared.runtime.worker import Handler, Limits, Worker
from shared.store.artifacts import DirectoryStore
from shared.store.redis_queue import RedisQueue


def main() -> None:
    """Run until told to stop."""
    settings = TrainerSettings()
    configure_logging("trainer", settings.log_level)
    stop = stop_on_signals()
    store = DirectoryStore(settings.store_dir)
    module, _, name = settings.backend.partition(":")
    build = cast(Callable[[DirectoryStore, TrainerSettings], Handler], getattr(importlib.import_module(module), name))
    queue = RedisQueue(settings.redis_url, consumer=settings.consumer("trainer"), lease_s=settings.lease_s)
    limits = Limits(settings.lease_s, settings.deadline_s, settings.drain_s)
    Worker(queue, store, ["train"], build(store, settings), limits).run(stop)


if __name__ == "__main__":
    main()
