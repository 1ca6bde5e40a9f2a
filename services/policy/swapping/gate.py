"""The gate in front of the engine: many generate at once, a swap is alone, and the runs' work goes first."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from services.policy.engine import Engine, EngineBusyError
from services.policy.swapping.refusals import Refusals
from shared.contracts.weights import Precision, WeightVersion
from shared.runtime.device_lock import DeviceBusyError, SharedDevice
from shared.runtime.telemetry import span


class Gate:
    """Shared access for work under one weight version, exclusive access for swaps.

    Closing waits for running work to finish; whoever comes meanwhile waits and is never refused. The gate reopens
    after every swap, successful or not. One swap goes on at a time. Safe for any number of threads.

    Work of runs takes the engine by `serving`; whoever is outside the runs visits it by `visiting`, and never makes a
    run's work wait for more than the visits and the swap that began before it. Both hold the accelerator where it is
    shared.
    """

    def __init__(
        self,
        engine: Engine,
        directory_of: Callable[[WeightVersion], Path],
        *,
        device: SharedDevice | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._device = device
        self._clock = clock
        self._directory_of = directory_of
        self._refusals = Refusals(clock)
        self._swapping = threading.Lock()
        self._changed = threading.Condition()
        self._closed = False
        self._running = 0
        self._num_owners = 0
        self._owned_until: float | None = None

    @property
    def live(self) -> WeightVersion | None:
        """The version that the engine serves at this moment."""
        return self._engine.live_version()

    @property
    def precision(self) -> Precision:
        """What the engine computes in; `EngineError` before the first swap."""
        return self._engine.precision()

    @property
    def trouble(self) -> str | None:
        """Why the last swap failed; None once one has succeeded."""
        return self._refusals.reason

    @property
    def closed(self) -> bool:
        """Whether a swap has the engine, or waits for it."""
        return self._closed

    @contextmanager
    def serving(self, version: WeightVersion) -> Generator[Engine]:
        """The engine, serving exactly `version` until the block is left; swaps first when another one is live.

        `SwapRefusedError` when the version does not pass verification. Must not be nested: a swap waits for the block.
        """
        with self._owning(), self._working():
            self.ensure(version)
            while not self._enter(version):
                self.ensure(version)
            try:
                yield self._engine
            finally:
                self._leave()

    @contextmanager
    def visiting(self, version: WeightVersion, idle_s: float) -> Generator[Engine]:
        """The engine, serving exactly `version` until the block is left, for somebody outside the runs.

        Beside a run's work when that has this very version live; otherwise swaps only when no run's work has had the
        engine for `idle_s` seconds. `EngineBusyError` while one has; `SwapRefusedError` as in `serving`.
        """
        with self._working(wait=False):
            if not self._enter_now(version):
                self._swap(version, lambda: self._check_idle(idle_s))
                if not self._enter_now(version):
                    raise EngineBusyError("a run's work took the engine a moment ago")
            try:
                yield self._engine
            finally:
                self._leave()

    def ensure(self, version: WeightVersion) -> None:
        """Make `version` live; does nothing when it is. Its files are checked before the gate closes.

        `SwapRefusedError` when they or their canary do not pass, `SwapGivenUpError` when that has happened too often.
        """
        with self._working():
            if self._engine.live_version() != version:
                self._swap(version)

    def _swap(self, version: WeightVersion, check: Callable[[], None] = lambda: None) -> None:
        """Make `version` live unless `check` raises, now or when the gate is about to close."""
        check()
        with self._swapping:
            if self._engine.live_version() == version:
                return
            directory = self._directory_of(version)
            with self._refusals.trying(version), span("swap", version=str(version)):
                self._engine.stage(directory, version)
                with self._alone(check):
                    self._engine.swap_weights(directory, version)

    def _check_idle(self, idle_s: float) -> None:
        """`EngineBusyError` unless no run's work has the engine, waits for it, or had it lately."""
        with self._changed:
            quiet_s = idle_s if self._owned_until is None else self._clock() - self._owned_until
            if self._num_owners or quiet_s < idle_s:
                raise EngineBusyError("a run's work has the engine under another weight version")

    @contextmanager
    def _working(self, *, wait: bool = True) -> Generator[None]:
        """The accelerator, where it is shared: waited for by a run's work, `EngineBusyError` for a visitor."""
        with ExitStack() as stack:
            if self._device is not None:
                try:
                    stack.enter_context(self._device.working(wait=wait))
                except DeviceBusyError as error:
                    raise EngineBusyError("the trainer has the accelerator") from error
            yield

    @contextmanager
    def _owning(self) -> Generator[None]:
        with self._changed:
            self._num_owners += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_owners -= 1
                self._owned_until = self._clock()

    def _enter(self, version: WeightVersion) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._running += 1
        return self._stays(version)

    def _enter_now(self, version: WeightVersion) -> bool:
        """Without waiting: False when the gate is closed or another version is live."""
        with self._changed:
            if self._closed:
                return False
            self._running += 1
        return self._stays(version)

    def _stays(self, version: WeightVersion) -> bool:
        """Whether whoever was counted just now finds `version` live; leaves again otherwise.

        Counted first: no swap begins before the answer, and nobody waits for the lock while a server is asked.
        """
        try:
            found = self._engine.live_version() == version
        except BaseException:
            self._leave()
            raise
        if not found:
            self._leave()
        return found

    def _leave(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    @contextmanager
    def _alone(self, check: Callable[[], None]) -> Generator[None]:
        with self._changed:
            check()
            self._closed = True
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._running == 0)
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
