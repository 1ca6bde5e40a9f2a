"""Whether the store can be written to now, and whether it ever could: asked cheaply, before anybody depends on it."""

import errno
import os
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shared.store.artifacts import identity
from shared.store.artifacts.refusals import refusal
from shared.store.artifacts.store import ArtifactStore, DirectoryStore

FLOOR_BYTES = 64 * 2**20
FRESH_S = 2.0
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK, errno.EINVAL})


class UnusableStoreError(RuntimeError):
    """No artifact can ever be stored here; the message says why, and what to do."""


class StoreProbe(ABC):
    """Looks at one store, at most every `FRESH_S`. Safe for any number of threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
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

    @abstractmethod
    def free_bytes(self) -> int | None:
        """What may still be written to the store; None where nobody can say."""

    @abstractmethod
    def _look(self) -> str | None: ...


class DirectoryProbe(StoreProbe):
    """Of a directory: whether it can be written to, and has room."""

    def __init__(
        self, root: Path, *, floor_bytes: int = FLOOR_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(clock)
        self._root = root
        self._floor_bytes = floor_bytes

    def free_bytes(self) -> int:
        """See `StoreProbe.free_bytes`."""
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


class RemoteProbe(StoreProbe):
    """Of a store that is reached over a network: whether it answers."""

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__()
        self._store = store

    def free_bytes(self) -> None:
        """See `StoreProbe.free_bytes`."""

    def _look(self) -> str | None:
        try:
            self._store.exists(identity.KEY)
        except OSError as error:
            return str(refusal(error) or error)
        return None


def probe_of(store: ArtifactStore) -> StoreProbe:
    """The one that suits the store."""
    return DirectoryProbe(store.root) if isinstance(store, DirectoryStore) else RemoteProbe(store)


def check(store: ArtifactStore) -> None:
    """`UnusableStoreError` unless the second of two exclusive creations of a key is refused, and listing works.

    Nothing where the store is away at the moment.
    """
    key = f"checks/{secrets.token_hex(16)}"
    with suppress(OSError):
        try:
            _check_exclusive(store, key)
        except NotImplementedError as error:
            reason = f"{store} has no conditional puts here: {str(error).splitlines()[0]}"
            raise UnusableStoreError(f"INPO_STORE_URL: {reason}") from error
        finally:
            store.remove(key)


def _check_exclusive(store: ArtifactStore, key: str) -> None:
    if not store.create(key, b"first"):
        raise UnusableStoreError(f"INPO_STORE_URL: {store} refuses to create a new object")
    if store.create(key, b"second") or store.read(key) != b"first":
        raise UnusableStoreError(
            f"INPO_STORE_URL: {store} overwrites objects: it ignores conditional puts (If-None-Match: *), without "
            "which two workers could both believe that theirs counts. Use a store that has them, or a directory."
        )
    if key.rpartition("/")[2] not in store.list("checks"):
        raise UnusableStoreError(f"INPO_STORE_URL: {store} does not list what was just created")


def opened(root: Path) -> DirectoryStore:
    """The store of a service; `UnusableStoreError` where the file system cannot do what a store needs.

    One that is full or read-only at the moment is opened all the same: readiness says so.
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
