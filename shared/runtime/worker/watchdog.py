"""A deadline that nothing inside the process can hold up: not even work that never gives the interpreter away.

Threads and signal handlers of Python run only when the interpreter is free, which it is not while one regular
expression backtracks or one call of a tokenizer lasts. The timer of `faulthandler` is a thread of C that needs no
interpreter: it writes where every thread stands to the standard error, and ends the process with status 1. There is one
such timer in a process, so all that goes on in it shares this one, set for whatever is due first.
"""

import faulthandler
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

STDERR = 2
LONGEST_S = 1e8  # the timer refuses numbers that are too large; this is three years


def _set_timer(seconds: float | None) -> None:
    if seconds is None:
        faulthandler.cancel_dump_traceback_later()
    else:
        faulthandler.dump_traceback_later(seconds, exit=True, file=STDERR)


class Watchdog:
    """The deadlines of one process. Threads may share one."""

    def __init__(self, set_timer: Callable[[float | None], None] = _set_timer) -> None:
        self._set_timer = set_timer
        self._lock = threading.Lock()
        self._due: dict[object, float] = {}

    @contextmanager
    def within(self, seconds: float) -> Generator[None]:
        """The process ends, whatever it is doing, unless the block does within so many seconds."""
        entry = object()
        with self._lock:
            self._due[entry] = time.monotonic() + min(seconds, LONGEST_S)
            self._wind()
        try:
            yield
        finally:
            with self._lock:
                del self._due[entry]
                self._wind()

    def _wind(self) -> None:
        first = min(self._due.values(), default=None)
        self._set_timer(None if first is None else max(0.001, first - time.monotonic()))


WATCHDOG = Watchdog()
"""This process's: it has one timer."""
