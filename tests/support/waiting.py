"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

import threading
import time
from collections.abc import Callable


def wait_until(predicate: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return as soon as the predicate holds; fail naming `what` after the deadline."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain for: {what}")
        pause.wait(0.02)
