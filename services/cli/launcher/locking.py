"""One system a state directory: a file lock that lives as long as any process of the system."""

import fcntl
import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from services.cli.failures import StartError

LOCK = "up.lock"
ENDING_S = 15.0


@contextmanager
def only_one(state_dir: Path) -> Generator[int]:
    """Hold the directory's lock, yielding its descriptor; `StartError` names the process that holds it.

    The lock of a launcher that was killed is held by its process groups until the last has ended; that is waited for.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, state_dir)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        try:
            yield descriptor
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, state_dir: Path) -> None:
    deadline = time.monotonic() + ENDING_S
    pause = threading.Event()
    while not _locked(descriptor):
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        if _is_alive(holder):
            raise StartError(
                f"another inpo up (process {holder}) uses {state_dir}: end it, or choose another --state-dir"
            )
        if time.monotonic() > deadline:
            raise StartError(
                f"processes of an earlier inpo up (process {holder}, gone) still use {state_dir}: end them, "
                "or choose another --state-dir"
            )
        pause.wait(0.1)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
