"""Telling a run whose artifacts cannot be used, which is its own trouble, from a disk or a Redis that is away."""

import errno
from collections.abc import Callable
from typing import TypeVar

from shared.store.queue.protocol import QueueUnavailableError

T = TypeVar("T")

# Of an `OSError`: what is wrong with one file, and not with the disk that it lies on.
_OF_ONE_FILE = frozenset(
    [
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
    ]
)


def is_broken(error: Exception) -> bool:
    """Whether what is stored of a run is missing, torn or not understood, and stays so until somebody mends it.

    False for what is away just now, as Redis, room on the disk or memory are: that is waited for.
    """
    if isinstance(error, QueueUnavailableError | MemoryError):
        return False
    return not isinstance(error, OSError) or error.errno in _OF_ONE_FILE


def unless_broken(read: Callable[[], T], otherwise: Callable[[Exception], T]) -> T:
    """What `read` gives; `otherwise` of the error where that `is_broken`."""
    try:
        return read()
    except Exception as error:
        if not is_broken(error):
            raise
        return otherwise(error)


def described(error: Exception) -> str:
    """What is wrong, in a line for people."""
    return f"{type(error).__name__}: {error}"
