"""Weights of an object store as folders of this machine: fetched once, verified before anybody sees them.

```
<staging>/<digest>/                what `local` answers: complete, as its manifest says
<staging>/candidates/<token>/      being written here; becomes <digest> when it is kept
<staging>/.<digest>.<token>/       being fetched
```
Several processes of a machine may share the folder: one fetches, the others wait for it.
"""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.contracts.weights import Manifest, WeightVersion
from shared.store.artifacts import layout
from shared.store.artifacts.store import MissingArtifactError
from shared.store.buckets.object_store import ObjectStore
from shared.store.weights.holding import hold, is_held, let_go
from shared.store.weights.manifests import MANIFEST, WeightsError, check_digest, parsed_manifest, unfinished, verify
from shared.store.weights.store import Candidate, folder_name, write_manifest

_CANDIDATES = "candidates"
IN_USE_S = 900.0
"""A version that was asked for within so many seconds may still be being read, and is not evicted."""


class StagedWeights:
    """See `WeightStore`: uploaded with the manifest last, so that what has one is complete."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._folder = store.staging

    def local(self, version: WeightVersion) -> Path:
        """See `WeightStore.local`."""
        path = self._folder / version.digest
        with self._alone(version.digest):
            if not path.is_dir():
                self._fetch(version, path)
                self._evict()
            os.utime(path)
        return path

    def address(self, version: WeightVersion) -> str:
        """See `WeightStore.address`."""
        return f"{self._store.url}/{version.directory}"

    def manifest(self, version: WeightVersion) -> Manifest:
        """See `WeightStore.manifest`."""
        try:
            return parsed_manifest(self._store.read(f"{version.directory}/{MANIFEST}"), version.directory)
        except MissingArtifactError:
            raise unfinished(version.directory) from None

    def begin(self, run: str, number: int, half: int | None = None) -> Candidate:
        """See `WeightStore.begin`. The token behind the number is random: no two trainers ever make the same."""
        self._forget_unfinished()
        token = secrets.token_hex(8)
        path = self._folder / _CANDIDATES / token
        path.mkdir(parents=True)
        hold(path)
        return Candidate(run, number, half, f"{layout.weights(run)}/{folder_name(number, half)}-{token}", path)

    def finish(self, candidate: Candidate, *, parent: str | None, num_parameters: int) -> WeightVersion:
        """See `WeightStore.finish`. What was kept is staged already, for the next who asks on this machine."""
        version = write_manifest(candidate, parent=parent, num_parameters=num_parameters)
        for file in sorted(candidate.path.iterdir()):
            if file.name != MANIFEST:
                self._store.upload(f"{candidate.key}/{file.name}", file)
        self._store.create(f"{candidate.key}/{MANIFEST}", (candidate.path / MANIFEST).read_bytes())
        self._stage(candidate.path, self._folder / version.digest)
        let_go(candidate.path)
        return version

    def discard(self, candidate: Candidate) -> None:
        """See `WeightStore.discard`."""
        shutil.rmtree(candidate.path, ignore_errors=True)
        let_go(candidate.path)

    def settled(self, version: WeightVersion) -> None:
        """See `WeightStore.settled`. Nothing of this machine holds a version."""

    def remove(self, version: WeightVersion) -> None:
        """See `WeightStore.remove`. What is staged goes with its time: equal weights may be another version's, too."""
        self._store.remove(version.directory)

    def _fetch(self, version: WeightVersion, path: Path) -> None:
        manifest = self.manifest(version)
        check_digest(manifest, version)
        partial = self._folder / f".{version.digest}.{secrets.token_hex(4)}"
        partial.mkdir(parents=True)
        hold(partial)
        try:
            for file in manifest.files:
                self._store.download(f"{version.directory}/{file.name}", partial / file.name)
            (partial / MANIFEST).write_text(manifest.model_dump_json(indent=1))
            verify(partial, version)
            partial.rename(path)
        except MissingArtifactError as error:
            raise WeightsError(f"{version.directory} is incomplete: {error} is missing") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            let_go(partial)

    def _stage(self, source: Path, path: Path) -> None:
        with self._alone(path.name):
            if path.is_dir():
                shutil.rmtree(source)
            else:
                source.rename(path)
            os.utime(path)

    def _evict(self) -> None:
        """The longest unused first, until the rest is within the limit."""
        staged = sorted((path.stat().st_mtime, path) for path in self._folder.iterdir() if len(path.name) == 64)
        sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for _, path in staged}
        too_much = sum(sizes.values()) - self._store.max_staged_bytes
        for used_s, path in staged:
            if too_much <= 0 or time.time() - used_s < IN_USE_S:
                return
            # Out of sight at once: nobody may take half a folder for a whole one.
            gone = self._folder / f".{path.name}.{secrets.token_hex(4)}"
            path.rename(gone)
            shutil.rmtree(gone)
            too_much -= sizes[path]

    def _forget_unfinished(self) -> None:
        """What processes that were killed were writing or fetching; a folder so young may not be held yet."""
        for path in (*self._folder.glob(f"{_CANDIDATES}/*"), *self._folder.glob(".*.*/")):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > IN_USE_S and not is_held(path):
                    shutil.rmtree(path)

    @contextmanager
    def _alone(self, digest: str) -> Generator[None]:
        """One thread of one process of this machine at a time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f".{digest}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
