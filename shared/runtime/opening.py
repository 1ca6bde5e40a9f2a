"""Opening the artifact store that the settings name."""

import sys
from pathlib import Path

from shared.runtime.settings import Settings
from shared.store.artifacts import probe
from shared.store.artifacts.store import ArtifactStore, DirectoryStore


def named_store(settings: Settings) -> ArtifactStore:
    """The object store of `store_url`, else the directory `store_dir`; whether it can hold artifacts is not tried."""
    if settings.store_url is None:
        return DirectoryStore(settings.store_dir)
    # Only where it is asked for: a system on one machine does without the library.
    from shared.store.buckets.object_store import ObjectStore  # noqa: PLC0415

    staging = settings.staging_dir or settings.store_dir / "staged"
    return ObjectStore(settings.store_url, staging, settings.max_staged_bytes)


def open_store(settings: Settings) -> ArtifactStore:
    """The artifact store of a service, which ends with reason and remedy where that can never hold artifacts.

    One that refuses or is away at the moment is opened all the same.
    """
    try:
        if settings.store_url is None:
            return probe.opened(settings.store_dir)
        store = named_store(settings)
        probe.check(store)
        return store
    except probe.UnusableStoreError as error:
        sys.exit(str(error))


def local_folder(store: ArtifactStore, settings: Settings) -> Path:
    """Folder of this machine for what an item can do without, such as its checkpoints."""
    return store.root if isinstance(store, DirectoryStore) else settings.store_dir
