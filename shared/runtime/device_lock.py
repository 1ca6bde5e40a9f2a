"""One accelerator for policy and trainer: a lock on a file, so that their phases follow one another on one machine.

```
with DeviceLock(settings.device_lock).held(stop):      # waits for the other service to let go
    train()
```

The operating system lets go of the lock when its holder dies, however it dies. Without a file every call does nothing.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

POLL_S = 0.2


class DeviceLock:
    """An exclusive lock between processes; `file` None shares nothing. One holder at a time in this process as well."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._descriptor: int | None = None

    @property
    def holding(self) -> bool:
        """Whether this object has the lock now."""
        return self._descriptor is not None

    def take(self, stop: threading.Event | None = None) -> bool:
        """Wait until the lock is ours; False when `stop` was set before. May be repeated. `OSError` for a bad path."""
        if self._file is None or self._descriptor is not None:
            return True
        self._file.parent.mkdir(parents=True, exist_ok=True)
        waiting = stop or threading.Event()
        # Readable by another user of the machine, who may run the other service.
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting.wait(POLL_S):
                    os.close(descriptor)
                    return False
            else:
                self._descriptor = descriptor
                return True

    def release(self) -> None:
        """Let go; does nothing without the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    @contextmanager
    def held(self, stop: threading.Event | None = None) -> Generator[bool]:
        """The lock inside the block; yields False, without it, when `stop` was set while waiting."""
        try:
            yield self.take(stop)
        finally:
            self.release()


class SharedDevice:
    """The policy's side: takes the lock for work, keeps it while there is work, and lets go after `idle_s` without any.

    `wake` is called once the lock is had and before any work, `rest` before it is let go. Safe for many threads.
    """

    def __init__(
        self, lock: DeviceLock, *, wake: Callable[[], None], rest: Callable[[], None], idle_s: float = 2.0
    ) -> None:
        self._lock = lock
        self._wake = wake
        self._rest = rest
        self._idle_s = idle_s
        self._mutex = threading.Lock()
        self._working = 0
        self._timer: threading.Timer | None = None

    @contextmanager
    def working(self) -> Generator[None]:
        """The device is ours and awake inside the block. What `wake` raises is raised, and the lock let go again."""
        with self._mutex:
            self._cancel()
            if not self._lock.holding:
                self._lock.take()
                try:
                    self._wake()
                except BaseException:
                    self._lock.release()
                    raise
            self._working += 1
        try:
            yield
        finally:
            with self._mutex:
                self._working -= 1
                if self._working == 0:
                    self._timer = threading.Timer(self._idle_s, self._let_go)
                    self._timer.daemon = True
                    self._timer.start()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_go(self) -> None:
        with self._mutex:
            if self._working or not self._lock.holding:
                return
            try:
                self._rest()
            except Exception as error:  # noqa: BLE001  (a server that died has no memory to give back)
                log.warning("rest_failed", error=repr(error))
            finally:
                self._lock.release()
