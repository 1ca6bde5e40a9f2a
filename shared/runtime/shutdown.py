"""Stopping on request."""

import queue
import signal
import threading


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
