"""Stopping on request."""

import os
import queue
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)

EXIT_LOOP_ENDED = 70
LAST_RESORT_S = 30.0


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set; call it in the main thread."""
    stop = threading.Event()
    # A handler interrupts the main thread anywhere, also inside `stop.wait()`, where `stop.set()` would wait for a lock
    # that the main thread holds. `SimpleQueue.put` is the one hand-over that may be called from there.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def watch() -> None:
        signals.get()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.put(number))
    threading.Thread(target=watch, name="signals", daemon=True).start()
    return stop


@contextmanager
def process_ends_with(ended: threading.Event, *, last_resort_s: float = LAST_RESORT_S) -> Generator[None]:
    """For a loop's thread: when the block raises, set `ended` and end the process, whose main thread may be serving.

    A process that only looks alive is worse than one that its supervisor restarts: a main thread that does not end in
    time is not waited for.
    """
    try:
        yield
    except BaseException:
        ended.set()
        log.exception("loop_ended", thread=threading.current_thread().name)
        deadline = time.monotonic() + last_resort_s
        while time.monotonic() < deadline:  # the server may not have begun to listen for signals yet
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(1.0)
        os._exit(EXIT_LOOP_ENDED)
