"""The artifact store's twin in memory: for simulations and unit tests."""

import threading

from shared.store.artifacts.store import MissingArtifactError, checked_key


class MemoryStore:
    """See `ArtifactStore`. Objects are in `objects`, by key."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._creating = threading.Lock()

    def create(self, key: str, data: bytes) -> bool:
        """See `ArtifactStore.create`."""
        with self._creating:
            if checked_key(key) in self.objects:
                return False
            self.objects[key] = data
            return True

    def read(self, key: str) -> bytes:
        """See `ArtifactStore.read`."""
        try:
            return self.objects[checked_key(key)]
        except KeyError:
            raise MissingArtifactError(key) from None

    def exists(self, key: str) -> bool:
        """See `ArtifactStore.exists`."""
        return checked_key(key) in self.objects

    def list(self, folder: str) -> list[str]:
        """See `ArtifactStore.list`."""
        prefix = f"{checked_key(folder)}/"
        names = {key[len(prefix) :].split("/")[0] for key in tuple(self.objects) if key.startswith(prefix)}
        return sorted(name for name in names if not name.startswith("."))

    def remove(self, key: str) -> None:
        """See `ArtifactStore.remove`."""
        for name in tuple(self.objects):
            if f"{name}/".startswith(f"{checked_key(key)}/"):
                del self.objects[name]
