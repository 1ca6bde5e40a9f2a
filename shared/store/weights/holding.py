"""Who still writes a candidate: a lock on its folder, which ends with its process, however that ends."""

import fcntl
import os
import threading
from pathlib import Path

_held: dict[Path, int] = {}
_guard = threading.Lock()


def hold(folder: Path) -> None:
    """Until `let_go`, or this process's end. A file system without such locks is no error: nobody is seen then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return
    with _guard:
        _held[folder] = descriptor


def let_go(folder: Path) -> None:
    """Nothing when it is not held by this process."""
    with _guard:
        descriptor = _held.pop(folder, None)
    if descriptor is not None:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process that can be seen from here holds the folder; one of another machine may go unseen."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
