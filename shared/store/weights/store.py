"""Weight versions as folders of this machine, wherever they are kept: who uses them does not know which store it is."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from shared.contracts.weights import FileDigest, Manifest, WeightVersion
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, DirectoryStore
from shared.store.weights.holding import hold, let_go
from shared.store.weights.manifests import MANIFEST, manifest_digest, read_manifest, sha256


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that is being written: into `path`, a new empty folder of this machine, to be kept under `key`."""

    run: str
    number: int
    half: int | None
    key: str
    path: Path


class WeightStore(Protocol):
    """Where weight versions are kept. One that cannot be had raises `WeightsError` or `OSError`."""

    def local(self, version: WeightVersion) -> Path:
        """The version's folder on this machine, not to be written to.

        Whoever loads it calls `verify` on it: what lies on a disk may have changed since it was put there.
        """
        ...

    def address(self, version: WeightVersion) -> str:
        """Where people find the version: a path, or a URL."""
        ...

    def manifest(self, version: WeightVersion) -> Manifest:
        """What its folder says that it holds, without its files; errors as those of `read_manifest`."""
        ...

    def begin(self, run: str, number: int, half: int | None = None) -> Candidate:
        """A folder to write a candidate of version `number`, or of its intermediate `half`, into: nobody else's."""
        ...

    def finish(self, candidate: Candidate, *, parent: str | None, num_parameters: int) -> WeightVersion:
        """Write the manifest of a complete folder, whose tensors the caller has checked to be finite, and keep it."""
        ...

    def discard(self, candidate: Candidate) -> None:
        """Forget a candidate that will not be finished. Never raises: what is left of it is collected."""
        ...

    def settled(self, version: WeightVersion) -> None:
        """The version is published, or never will be: its writer does not hold it any more."""
        ...

    def remove(self, version: WeightVersion) -> None:
        """Forget a version that nobody names. Never raises: what is left of it is collected."""
        ...


@runtime_checkable
class KeepsWeights(Protocol):
    """An artifact store that has a way of its own of keeping weights."""

    def weights(self) -> WeightStore:
        """Those that are kept with its artifacts."""
        ...


class DirectoryWeights:
    """See `WeightStore`: folders below the artifact store's own, which answers at once."""

    def __init__(self, store: DirectoryStore) -> None:
        self._store = store

    def local(self, version: WeightVersion) -> Path:
        """See `WeightStore.local`."""
        return self._store.path(version.directory)

    def address(self, version: WeightVersion) -> str:
        """See `WeightStore.address`."""
        return str(self.local(version))

    def manifest(self, version: WeightVersion) -> Manifest:
        """See `WeightStore.manifest`."""
        return read_manifest(self.local(version))

    def begin(self, run: str, number: int, half: int | None = None) -> Candidate:
        """See `WeightStore.begin`.

        The token behind the number is one above the highest ever seen, so two trainers of the same iteration never
        write into the same directory.
        """
        folder, name = layout.weights(run), folder_name(number, half)
        while True:
            names = self._store.list(folder)
            tokens = [int(found.rpartition("-")[2]) for found in names if found.rpartition("-")[0] == name]
            key = f"{folder}/{name}-{max(tokens, default=0) + 1}"
            path = self._store.path(key)
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            hold(path)
            return Candidate(run, number, half, key, path)

    def finish(self, candidate: Candidate, *, parent: str | None, num_parameters: int) -> WeightVersion:
        """See `WeightStore.finish`."""
        return write_manifest(candidate, parent=parent, num_parameters=num_parameters)

    def discard(self, candidate: Candidate) -> None:
        """See `WeightStore.discard`."""
        shutil.rmtree(candidate.path, ignore_errors=True)
        let_go(candidate.path)

    def settled(self, version: WeightVersion) -> None:
        """See `WeightStore.settled`."""
        let_go(self._store.path(version.directory))

    def remove(self, version: WeightVersion) -> None:
        """See `WeightStore.remove`."""
        shutil.rmtree(self._store.path(version.directory), ignore_errors=True)


def folder_name(number: int, half: int | None) -> str:
    """What a version's folder is called, before the token that makes it nobody else's."""
    return f"{number:04d}" if half is None else f"{number:04d}.half-{half}"


def write_manifest(candidate: Candidate, *, parent: str | None, num_parameters: int) -> WeightVersion:
    """Make a version of a complete folder: `manifest.json`, durable, as its last file.

    Files become world-readable: the policy may run under another user (transformers leaves safetensors at mode 0600).
    """
    files: list[FileDigest] = []
    for file in sorted(candidate.path.iterdir()):
        file.chmod(0o644)
        files.append(FileDigest(name=file.name, size_bytes=file.stat().st_size, sha256=sha256(file)))
    run, number, half = candidate.run, candidate.number, candidate.half
    manifest = Manifest(
        number=number, half=half, parent=parent, files=files, num_parameters=num_parameters, finite=True
    )
    DirectoryStore(candidate.path).create(MANIFEST, manifest.model_dump_json(indent=1).encode())
    (candidate.path / MANIFEST).chmod(0o644)
    return WeightVersion(run=run, number=number, half=half, digest=manifest_digest(manifest), directory=candidate.key)


def weights_of(store: ArtifactStore) -> WeightStore:
    """The weights that are kept with these artifacts."""
    if isinstance(store, DirectoryStore):
        return DirectoryWeights(store)
    if isinstance(store, KeepsWeights):
        return store.weights()
    raise TypeError(f"{type(store).__name__} keeps no weights")
