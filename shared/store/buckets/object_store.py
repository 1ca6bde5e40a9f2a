# obstore gives some results as Arrow, whose types are unknown.
# pyright: reportUnknownMemberType=false
"""Artifacts in an object store (S3, Google Cloud Storage, Azure, and what speaks their protocols), by way of obstore.

Exclusive creation is the store's own conditional put, nothing else: a service refuses one that cannot do it.
"""

import errno
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore as Bucket
from obstore.store import from_url

from shared.store.artifacts.store import MissingArtifactError, checked_key
from shared.store.weights.store import WeightStore

_WRITER = "inpo-writer"
_RETRY_FOR = timedelta(seconds=20)


class StoreUnavailableError(OSError):
    """The object store did not answer, or refused: nothing is wrong with what was asked, and it passes."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(errno.EIO, f"it does not do as asked: {why}", url)


class ObjectStore:
    """See `ArtifactStore`. `url` is `s3://bucket/prefix`, `gs://…` or `az://…`; all else is the cloud's environment.

    That is `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` and so on, as obstore documents them. Weights are fetched into the
    folder `staging` of this machine, of which the versions that are not in use have at most `max_staged_bytes`.
    """

    def __init__(self, url: str, staging: Path, max_staged_bytes: int) -> None:
        self.url = url
        self.staging = staging
        self.max_staged_bytes = max_staged_bytes
        with self._answering():
            # A store on plain http is one that the operator named by AWS_ENDPOINT_URL; a cloud's own is https anyway.
            self._bucket: Bucket = from_url(
                url,
                client_options={"allow_http": True, "timeout": timedelta(seconds=300)},
                retry_config={"max_retries": 6, "retry_timeout": _RETRY_FOR},
            )

    def __str__(self) -> str:
        return self.url

    def create(self, key: str, data: bytes) -> bool:
        """See `ArtifactStore.create`.

        A put whose answer was lost is sent again, and then finds its own object: the writer's token in the object's
        metadata tells it from somebody else's.
        """
        token = secrets.token_hex(16)
        with self._answering():
            try:
                # In one part: a put in several parts has no condition.
                obstore.put(
                    self._bucket,
                    checked_key(key),
                    data,
                    attributes={_WRITER: token},
                    mode="create",
                    use_multipart=False,
                )
            except AlreadyExistsError:
                found = obstore.get(self._bucket, key, options={"head": True})
                return found.attributes.get(_WRITER) == token
        return True

    def read(self, key: str) -> bytes:
        """See `ArtifactStore.read`."""
        with self._answering(key):
            return bytes(obstore.get(self._bucket, checked_key(key)).bytes())

    def exists(self, key: str) -> bool:
        """See `ArtifactStore.exists`."""
        with self._answering():
            try:
                obstore.head(self._bucket, checked_key(key))
            except FileNotFoundError:
                return False
        return True

    def list(self, folder: str) -> list[str]:
        """See `ArtifactStore.list`. One request for a thousand names."""
        with self._answering():
            found = obstore.list_with_delimiter(self._bucket, checked_key(folder))
        paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        return sorted(name for name in (PurePosixPath(path).name for path in paths) if not name.startswith("."))

    def remove(self, key: str) -> None:
        """See `ArtifactStore.remove`. Of a folder what is last by name goes last, whenever this is interrupted."""
        with self._answering():
            below = sorted(item["path"] for chunk in obstore.list(self._bucket, checked_key(key)) for item in chunk)
            for paths in (key, below[:-1], below[-1:]):
                with suppress(FileNotFoundError):  # some stores say so of what is not there
                    obstore.delete(self._bucket, paths)

    def upload(self, key: str, path: Path) -> None:
        """A file as the object under a key that is nobody else's, in parts where it is large."""
        with self._answering():
            obstore.put(self._bucket, checked_key(key), path)

    def download(self, key: str, path: Path) -> None:
        """The object as a new file; `MissingArtifactError` when there is none."""
        with self._answering(key), path.open("xb") as file:
            for chunk in obstore.get(self._bucket, checked_key(key)).stream(min_chunk_size=8 * 2**20):
                file.write(chunk)

    def weights(self) -> WeightStore:
        """See `KeepsWeights`."""
        from shared.store.buckets.staging import StagedWeights  # noqa: PLC0415  (it stands on this module)

        return StagedWeights(self)

    @contextmanager
    def _answering(self, key: str | None = None) -> Generator[None]:
        """What the library raises, as what a caller of an artifact store knows."""
        try:
            yield
        except FileNotFoundError as error:
            if key is None:
                # Nothing was named that could be missing, but the bucket.
                raise StoreUnavailableError(self.url, _first_line(error)) from error
            raise MissingArtifactError(key) from None
        except BaseError as error:
            raise StoreUnavailableError(self.url, _first_line(error)) from error


def _first_line(error: Exception) -> str:
    """What the library says for a person; what follows is its own debugging."""
    return str(error).split("\n", 1)[0][:300]
