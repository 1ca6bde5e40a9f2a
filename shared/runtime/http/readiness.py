"""Whether a service is ready, told within seconds however long its parts take to say so, and however many ask."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future

Readiness = Callable[[], Mapping[str, str | None]]
"""What is wrong with each part that the service needs, None where nothing is. May block."""

KEPT_S = 1.0
LIMIT_S = 2.0


class ReadinessProbe:
    """Asks in a thread of its own, one at a time, at most once in `KEPT_S`: whoever asks meanwhile is told the same.

    A part that does not answer within `LIMIT_S` is itself the answer. Used on the event loop only.
    """

    def __init__(self, ready: Readiness) -> None:
        self._ready = ready
        self._answer: Future[Mapping[str, str | None]] | None = None
        self._asked_s = 0.0

    async def __call__(self) -> Mapping[str, str | None]:
        """What is wrong with each part; raises what `ready` raises."""
        answer = asyncio.wrap_future(self._asked())
        done, _ = await asyncio.wait([answer], timeout=LIMIT_S)
        if not done:
            return {"readiness": f"did not answer within {LIMIT_S:g} s"}
        return answer.result()

    def _asked(self) -> Future[Mapping[str, str | None]]:
        now = time.monotonic()
        if self._answer is None or (self._answer.done() and now - self._asked_s >= KEPT_S):
            self._answer, self._asked_s = Future(), now
            # A daemon: a process whose Redis is silent can still end.
            threading.Thread(target=_tell, args=(self._ready, self._answer), name="readiness", daemon=True).start()
        return self._answer


def _tell(ready: Readiness, answer: Future[Mapping[str, str | None]]) -> None:
    try:
        answer.set_result(ready())
    except BaseException as error:  # noqa: BLE001  (whoever asked raises it)
        answer.set_exception(error)
