"""A store in memory that counts what is asked of it."""

from collections import Counter

from shared.store.artifacts.memory_store import MemoryStore


class CountedStore(MemoryStore):
    """`asked` counts reads and listings by key, `exists` apart from them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def read(self, key: str) -> bytes:
        """See `ArtifactStore.read`."""
        self.asked[key] += 1
        return super().read(key)

    def list(self, folder: str) -> list[str]:
        """See `ArtifactStore.list`."""
        self.asked[folder] += 1
        return super().list(folder)
