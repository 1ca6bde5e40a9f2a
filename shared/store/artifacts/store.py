"""The artifact store: immutable objects under keys, created exclusively.

`create` never overwrites: whoever loses the race adopts the winner's object. An object is durable (fsync) before it is
visible, and visible whole or not at all.
"""

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from shared.store.artifacts.versions import VERSION, WRITTEN_BY, of_another_release

_NOT_IN_A_KEY = frozenset({"", ".", ".."})

ModelT = TypeVar("ModelT", bound=BaseModel)


class MissingArtifactError(LookupError):
    """The key holds nothing. The caller asked too early, or for something that was never made."""


class CorruptArtifactError(ValueError):
    """The object under the key is not what its schema says. It is never repaired silently."""


class NewerArtifactError(CorruptArtifactError):
    """The object is another release's, who understands it. It is left as it is, and waited for; nothing is broken."""


class ArtifactStore(Protocol):
    """What every artifact store promises. Keys are relative paths with forward slashes.

    A store that does not answer, or refuses, raises `OSError`: that passes, and is nobody's fault who asked.
    """

    def create(self, key: str, data: bytes) -> bool:
        """Store `data` durably under a free key. False, with nothing changed, when the key is taken."""
        ...

    def read(self, key: str) -> bytes:
        """The object's bytes; `MissingArtifactError` when there is none."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the key holds an object."""
        ...

    def list(self, folder: str) -> list[str]:
        """Names (not keys) directly below a folder, sorted; empty when the folder does not exist."""
        ...

    def remove(self, key: str) -> None:
        """Take an object, or a folder with all that is in it, out of the store; nothing where there is none.

        For records whose time is over, and decisions that somebody takes back. Artifacts of runs are for ever.
        """
        ...


class DirectoryStore:
    """Artifacts as files below a local directory; folders of weights are ordinary directories in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return str(self.root)

    def path(self, key: str) -> Path:
        """The file or directory behind a key; refuses keys that lead out of the store."""
        return Path(self._located(key))

    def create(self, key: str, data: bytes) -> bool:
        """See `ArtifactStore.create`. Uses a hard link: the one primitive that is atomic, exclusive and complete."""
        target = self.path(key)
        _make_folder(target.parent)
        temporary = target.parent / f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}"
        created = False
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(temporary, target)
                created = True
        finally:
            with suppress(OSError):  # what cannot be removed now is collected later
                temporary.unlink()
        # Also for whoever lost: the winner may have failed right here, and what is adopted must be durable.
        _fsync_directory(target.parent)
        return created

    def read(self, key: str) -> bytes:
        """See `ArtifactStore.read`."""
        try:
            with open(self._located(key), "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise MissingArtifactError(key) from None

    def exists(self, key: str) -> bool:
        """See `ArtifactStore.exists`."""
        try:
            os.stat(self._located(key))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def list(self, folder: str) -> list[str]:
        """See `ArtifactStore.list`."""
        try:
            names = os.listdir(self._located(folder))
        except FileNotFoundError:
            return []
        return sorted(name for name in names if not name.startswith("."))

    def remove(self, key: str) -> None:
        """See `ArtifactStore.remove`. A folder is gone as a whole."""
        removed = self.root / f".removed-{secrets.token_hex(8)}"
        try:
            self.path(key).rename(removed)
        except FileNotFoundError:
            return
        if removed.is_dir():
            shutil.rmtree(removed)
        else:
            removed.unlink()

    def _located(self, key: str) -> str:
        """As text: whoever looks at many keys would spend most of the time on making paths of them."""
        return f"{self.root}/{checked_key(key)}"


def checked_key(key: str) -> str:
    """The key, if it leads nowhere but into the store; ValueError otherwise."""
    if any(part in _NOT_IN_A_KEY for part in key.split("/")):
        raise ValueError(f"not an artifact key: {key!r}")
    return key


def read_model(store: ArtifactStore, key: str, model: type[ModelT]) -> ModelT:
    """A JSON artifact as a validated model; `CorruptArtifactError` names the key when it does not validate.

    It is a `NewerArtifactError` where another release wrote what is not understood here.
    """
    data = store.read(key)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise unreadable(key, data, error) from error


def unreadable(key: str, data: bytes, error: ValidationError) -> CorruptArtifactError:
    """What to raise for JSON under a key that does not validate."""
    reason = of_another_release(data, error)
    return CorruptArtifactError(f"{key}: {error}") if reason is None else NewerArtifactError(f"{key} {reason}")


def create_model(store: ArtifactStore, key: str, value: BaseModel) -> bool:
    """Store a model as JSON under a free key; False when the key is taken. A `Signed` one says who wrote it."""
    if WRITTEN_BY in type(value).model_fields:
        value = value.model_copy(update={WRITTEN_BY: VERSION})
    return store.create(key, value.model_dump_json(indent=1).encode() + b"\n")


def _make_folder(folder: Path) -> None:
    """The folder and its ancestors, each durable in its parent: a power loss must not take them with their contents."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _fsync_directory(folder.parent)


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
