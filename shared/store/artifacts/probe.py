"""Whether the store can be written to now, and whether it ever could: asked cheaply, before anybody depends on it."""

import errno
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shared.store.artifacts.refusals import refusal
from shared.store.artifacts.store import DirectoryStore

FLOOR_BYTES = 64 * 2**20
FRESH_S = 2.0
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK, errno.EINVAL})


class UnusableStoreError(RuntimeError):
    """No artifact can ever be stored here; the message says why, and what to do."""


class StoreProbe:
    """Looks at one store, at most every `FRESH_S`. Safe for any number of threads."""

    def __init__(
        self, root: Path, *, floor_bytes: int = FLOOR_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._floor_bytes = floor_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_s: float | None = None
        self._trouble: str | None = None

    def trouble(self) -> str | None:
        """What keeps artifacts from being stored now, None where nothing does; at most `FRESH_S` old."""
        with self._lock:
            now = self._clock()
            if self._looked_s is None or now - self._looked_s >= FRESH_S:
                self._looked_s, self._trouble = now, self._look()
            return self._trouble

    def free_bytes(self) -> int:
        """What may still be written to the store."""
        return free_bytes(self._root)

    def _look(self) -> str | None:
        try:
            _try_to_write(self._root)
            free = free_bytes(self._root)
        except OSError as error:
            return str(refusal(error) or error)
        if free < self._floor_bytes:
            return f"{self._root} has {free / 2**20:.0f} MiB left, less than {self._floor_bytes / 2**20:.0f}: make room"
        return None


def opened(root: Path) -> DirectoryStore:
    """The store of a service; `UnusableStoreError` where the file system cannot do what a store needs.

    One that is full or read-only at the moment is opened all the same: readiness says so, and work waits.
    """
    try:
        store = DirectoryStore(root)
    except OSError as error:
        raise UnusableStoreError(f"INPO_STORE_DIR: {root} cannot be made: {error.strerror}") from error
    with suppress(OSError):
        _check_links(root)
    return store


def free_bytes(folder: Path) -> int:
    """What may still be written there, by whoever is not root."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _check_links(root: Path) -> None:
    first = _temporary(root)
    second = first.with_name(f"{first.name}.link")
    try:
        first.write_bytes(b"")
        os.link(first, second)
    except OSError as error:
        if first.exists() and error.errno in _NO_LINKS:
            raise UnusableStoreError(
                f"INPO_STORE_DIR: {root} is on a file system without hard links ({error.strerror}), by which artifacts "
                "are stored whole and once: put it on ext4, xfs, btrfs, zfs, tmpfs or NFS, not on FAT, exFAT or a "
                "mounted bucket"
            ) from error
        raise
    finally:
        for path in (first, second):
            with suppress(OSError):
                path.unlink()


def _try_to_write(root: Path) -> None:
    path = _temporary(root)
    try:
        with path.open("xb") as file:
            file.write(b"probe\n")
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):
            path.unlink()


def _temporary(root: Path) -> Path:
    return root / f".probe.{os.getpid()}.{secrets.token_hex(4)}"
