"""The artifact store that the settings name."""

from pathlib import Path

from shared.runtime.settings import Settings
from shared.store.artifacts.store import ArtifactStore, DirectoryStore


def open_store(settings: Settings) -> ArtifactStore:
    """The object store of `store_url`, else the directory `store_dir`. ValueError for one that holds no artifacts."""
    if settings.store_url is None:
        return DirectoryStore(settings.store_dir)
    # Only where it is asked for: a system on one machine does without the library.
    from shared.store.artifacts.object_store import ObjectStore  # noqa: PLC0415

    return ObjectStore(
        settings.store_url, settings.staging_dir or settings.store_dir / "staged", settings.max_staged_bytes
    )


def local_folder(store: ArtifactStore, settings: Settings) -> Path:
    """Folder of this machine for what an item can do without, such as its checkpoints."""
    return store.root if isinstance(store, DirectoryStore) else settings.store_dir
