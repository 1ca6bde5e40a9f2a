"""Watches a server that may be ill while its process lives: an API server whose engine died, for example."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """How a command's health is asked for: `probe` never raises. It may fail for `start_s` after a start."""

    probe: Callable[[], bool]
    start_s: float = 300.0
    num_failures: int = 3


class HealthWatch:
    """Probes from a thread of its own, because a probe of an ill server takes as long as its timeout."""

    def __init__(self, health: Health, stopping: threading.Event) -> None:
        self._health = health
        self._stopping = stopping
        self._lock = threading.Lock()
        self._since_s = time.monotonic()
        self._was_healthy = False
        self._failures = 0
        self._thread = threading.Thread(target=self._watch, name="health", daemon=True)

    def started(self) -> None:
        """The process was started just now: what was found out about the one before does not count."""
        with self._lock:
            self._since_s, self._was_healthy, self._failures = time.monotonic(), False, 0
        if self._thread.ident is None:
            self._thread.start()

    def ill(self) -> bool:
        """Whether the process must be ended: it was healthy and is so no more, or never became so in time."""
        with self._lock:
            if self._was_healthy:
                return self._failures >= self._health.num_failures
            return time.monotonic() - self._since_s > self._health.start_s

    def healthy(self) -> bool:
        """Whether the last probe since the start succeeded."""
        with self._lock:
            return self._was_healthy and self._failures == 0

    def _watch(self) -> None:
        while not self._stopping.wait(INTERVAL_S):
            with self._lock:
                since_s = self._since_s
            found = self._health.probe()
            with self._lock:
                # An answer of the process before says nothing of this one.
                if since_s == self._since_s:
                    self._was_healthy = self._was_healthy or found
                    self._failures = 0 if found else self._failures + 1
