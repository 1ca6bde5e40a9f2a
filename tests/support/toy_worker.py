"""`python -m tests.support.toy_worker URL FOLDER LEASE_S DEADLINE_S MODE`: a real worker process with a toy handler.

Writes `made/<shard>` for every good shard and a line to FOLDER/starts for every start. Shard 0 misbehaves as MODE says:
`raises`, `kills` (its own process, as the system does when memory is short), `hangs`, `backtracks` (for ever, and no
other thread runs meanwhile), `slow` (blocks three leases, then succeeds), `good`.
"""

import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from shared.contracts.work import Attempt, WorkItem
from shared.runtime.settings import Settings
from shared.runtime.shutdown import stop_on_signals
from shared.runtime.telemetry import configure_logging
from shared.runtime.worker.loop import Limits, Worker
from shared.store.artifacts.store import DirectoryStore
from shared.store.queue.redis_queue import RedisQueue


class ToyHandler:
    """Creates one artifact a shard."""

    def __init__(self, store: DirectoryStore, starts: Path, mode: str, lease_s: float) -> None:
        self._store = store
        self._starts = starts
        self._mode = mode
        self._lease_s = lease_s

    def __call__(self, item: WorkItem, attempt: Attempt) -> dict[str, Any]:
        with self._starts.open("a") as file:
            file.write(f"{item.shard}\n")
        if item.shard == 0:
            self._misbehave()
        created = self._store.create(f"made/{item.shard:05d}", str(item.shard).encode())
        return {"created": created, "try": attempt.number}

    def _misbehave(self) -> None:
        match self._mode:
            case "raises":
                raise ValueError("this shard is poison")
            case "kills":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                threading.Event().wait()
            case "backtracks":
                re.match("(a+)+$", "a" * 60 + "b")
            case "slow":
                threading.Event().wait(3 * self._lease_s)
            case _:
                pass


def main() -> None:
    """Work until SIGTERM."""
    url, folder, lease_s, deadline_s, mode = sys.argv[1:]
    configure_logging("toy", "INFO")
    stop = stop_on_signals()
    store = DirectoryStore(Path(folder) / "store")
    queue = RedisQueue(url, consumer=Settings().consumer("toy"), lease_s=float(lease_s))
    handler = ToyHandler(store, Path(folder) / "starts", mode, float(lease_s))
    limits = Limits(lease_s=float(lease_s), deadline_s=float(deadline_s), drain_s=0.2, grace_s=1.0)
    Worker(queue, store, ["generate"], handler, limits).run(stop)


if __name__ == "__main__":
    main()
