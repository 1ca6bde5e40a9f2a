"""The gate in front of the engine: many generate at once, a swap is alone."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from services.policy.engine import Engine
from shared.contracts.weights import WeightVersion
from shared.runtime.telemetry import span


class Gate:
    """Shared access for work under one weight version, exclusive access for swaps.

    Closing waits for running work to finish; whoever comes meanwhile waits and is never refused. The gate reopens
    after every swap, successful or not. One swap goes on at a time. Safe for any number of threads.
    """

    def __init__(self, engine: Engine, directory_of: Callable[[WeightVersion], Path]) -> None:
        self._engine = engine
        self._directory_of = directory_of
        self._swapping = threading.Lock()
        self._changed = threading.Condition()
        self._closed = False
        self._running = 0

    @property
    def live(self) -> WeightVersion | None:
        """The version that the engine serves at this moment."""
        return self._engine.live_version()

    @property
    def closed(self) -> bool:
        """Whether a swap has the engine, or waits for it."""
        return self._closed

    @contextmanager
    def serving(self, version: WeightVersion) -> Generator[Engine]:
        """The engine, serving exactly `version` until the block is left; swaps first when another one is live.

        `SwapRefusedError` when the version does not pass verification. Must not be nested: a swap waits for the block.
        """
        self.ensure(version)
        while not self._enter(version):
            self.ensure(version)
        try:
            yield self._engine
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def ensure(self, version: WeightVersion) -> None:
        """Make `version` live; does nothing when it is. Its files are checked before the gate closes."""
        if self._engine.live_version() == version:
            return
        with self._swapping:
            if self._engine.live_version() == version:
                return
            directory = self._directory_of(version)
            with span("swap", version=str(version)):
                self._engine.stage(directory, version)
                with self._alone():
                    self._engine.swap_weights(directory, version)

    def _enter(self, version: WeightVersion) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            if self._engine.live_version() != version:
                return False
            self._running += 1
            return True

    @contextmanager
    def _alone(self) -> Generator[None]:
        with self._changed:
            self._closed = True
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._running == 0)
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
