"""The artifact store's twin in memory: for simulations and unit tests."""

import threading

from shared.store.artifacts.store import MissingArtifactError


class MemoryStore:
    """See `ArtifactStore`. Objects are in `objects`, by key."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._creating = threading.Lock()

    def create(self, key: str, data: bytes) -> bool:
        """See `ArtifactStore.create`."""
        with self._creating:
            if _checked(key) in self.objects:
                return False
            self.objects[key] = data
            return True

    def read(self, key: str) -> bytes:
        """See `ArtifactStore.read`."""
        try:
            return self.objects[_checked(key)]
        except KeyError:
            raise MissingArtifactError(key) from None

    def exists(self, key: str) -> bool:
        """See `ArtifactStore.exists`. A folder exists as soon as something is in it."""
        return _checked(key) in self.objects or any(name.startswith(f"{key}/") for name in list(self.objects))

    def list(self, folder: str) -> list[str]:
        """See `ArtifactStore.list`."""
        prefix = f"{_checked(folder)}/"
        names = {key[len(prefix) :].split("/")[0] for key in tuple(self.objects) if key.startswith(prefix)}
        return sorted(name for name in names if not name.startswith("."))


def _checked(key: str) -> str:
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"not an artifact key: {key!r}")
    return key
