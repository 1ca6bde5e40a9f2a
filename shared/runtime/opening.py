"""Opening what a service stands on, when it starts."""

import sys
from pathlib import Path

from shared.store.artifacts import probe
from shared.store.artifacts.store import DirectoryStore


def opened_store(root: Path) -> DirectoryStore:
    """The artifact store; a service whose file system cannot hold one ends with the reason and the remedy."""
    try:
        return probe.opened(root)
    except probe.UnusableStoreError as error:
        sys.exit(str(error))
