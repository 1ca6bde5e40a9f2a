"""Versions that an engine would not serve: tried a few times, then refused at once for a while, with the reason."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from services.policy.engine import EngineError, EngineUnavailableError, SwapGivenUpError
from shared.contracts.weights import WeightVersion
from shared.store.artifacts.refusals import refusal

MAX_TRIES = 3
FORGET_S = 60.0


class Refusals:
    """What failed since the last swap that succeeded. A try costs a load of all weights, which may end a server."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: dict[str, tuple[int, float]] = {}
        self.reason: str | None = None

    @contextmanager
    def trying(self, version: WeightVersion) -> Generator[None]:
        """Around a swap to `version`. `SwapGivenUpError` instead of a try when it has failed `MAX_TRIES` times.

        A minute after the last of them it is tried again: whatever was wrong may have been mended.
        """
        tries, at = self._tries.get(version.digest, (0, 0.0))
        if tries >= MAX_TRIES and self._clock() - at < FORGET_S:
            raise SwapGivenUpError(f"given up after {tries} tries: {self.reason}")
        try:
            yield
        except EngineError as error:
            self.reason = str(error)
            # A server that is away says nothing about the weights, nor does a disk that cannot be read now.
            if not isinstance(error, EngineUnavailableError) and refusal(error) is None:
                self._tries[version.digest] = (tries % MAX_TRIES + 1, self._clock())
            raise
        self._tries.clear()
        self.reason = None
