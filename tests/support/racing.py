"""Processes that race for the same keys."""

from pathlib import Path

from shared.store.artifacts.store import DirectoryStore


def race(root: Path, name: str, num_keys: int) -> list[int]:
    """Try to create every key with `name` as its content; the keys won."""
    store = DirectoryStore(root)
    return [number for number in range(num_keys) if store.create(f"races/{number:04d}", name.encode())]
