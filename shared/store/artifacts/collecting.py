"""What writers that were killed left in the store, and questions that nobody asks any more."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore

TEMPORARY_GRACE_S = 3600.0
COMPARISON_GRACE_S = 7 * 24 * 3600.0
# `.name.pid.token` of an object that was being written, of the store's probe, and folders on their way out.
_TEMPORARY = re.compile(r"\.(.+\.\d+\.[0-9a-f]{8}(\.link)?|removed-[0-9a-f]{16})")


def is_temporary(name: str, age_s: float) -> bool:
    """Whether a name is one under which nothing is ever read, and its writer must be gone: an object takes seconds."""
    return age_s > TEMPORARY_GRACE_S and _TEMPORARY.fullmatch(name) is not None


def is_abandoned(age_s: float, *, answered: bool, awaited: bool) -> bool:
    """Whether an open comparison has done its work: it has its verdict, or no run is left that could ask it."""
    return age_s > COMPARISON_GRACE_S and (answered or not awaited)


def collect_temporaries(store: DirectoryStore, *, now_s: float | None = None) -> list[str]:
    """Remove what killed writers left; the paths of what is gone, below the store."""
    now = time.time() if now_s is None else now_s
    gone: list[str] = []
    for path in _hidden(store.root):
        with suppress(FileNotFoundError):
            if is_temporary(path.name, now - path.lstat().st_mtime):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                gone.append(str(path.relative_to(store.root)))
    return gone


def collect_comparisons(store: DirectoryStore, *, awaited: bool, now_s: float | None = None) -> list[str]:
    """Remove comparisons that are over. `awaited`: a run that has not ended has a judge that fetches them."""
    now = time.time() if now_s is None else now_s
    gone: list[str] = []
    for folder in store.list(layout.COMPARISONS):
        for name in store.list(f"{layout.COMPARISONS}/{folder}"):
            path = store.path(f"{layout.COMPARISONS}/{folder}/{name}")
            answered = store.exists(layout.verdict(path.stem))
            with suppress(FileNotFoundError):
                if is_abandoned(now - path.stat().st_mtime, answered=answered, awaited=awaited):
                    path.unlink()
                    gone.append(layout.comparison(path.stem))
    return gone


def _hidden(root: Path) -> Iterator[Path]:
    """Every file and folder whose name begins with a dot; what is below such a folder is a part of it."""
    for folder, folders, files in os.walk(root):
        hidden = [name for name in (*folders, *files) if name.startswith(".")]
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder) / name for name in hidden)
