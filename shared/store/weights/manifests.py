"""Weight directories: what their manifest, their canary and their tensors' headers say, and whether it is true.

Plain files and JSON only: checking weights needs neither torch nor safetensors.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from shared.contracts.weights import Canary, Manifest, WeightVersion
from shared.store.artifacts.store import NewerArtifactError
from shared.store.artifacts.versions import of_another_release

MANIFEST = "manifest.json"
CANARY = "canary.json"


class WeightsError(ValueError):
    """These weights must not be loaded; the message says why. Whatever served before goes on serving."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What a safetensors header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]


def manifest_digest(manifest: Manifest) -> str:
    """The version's digest: of the file list, so that equal files are equal weights."""
    lines = "".join(f"{file.sha256}  {file.size_bytes}  {file.name}\n" for file in manifest.files)
    return hashlib.sha256(lines.encode()).hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """The manifest; `WeightsError` when the directory is missing, unfinished or its manifest is broken.

    `NewerArtifactError` where another release wrote what is not understood here.
    """
    try:
        return parsed_manifest((directory / MANIFEST).read_bytes(), str(directory))
    except FileNotFoundError:
        raise unfinished(str(directory)) from None


def parsed_manifest(data: bytes, directory: str) -> Manifest:
    """The manifest of these bytes, which are those of a directory; errors as those of `read_manifest`."""
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        if reason := of_another_release(data, error):
            raise NewerArtifactError(f"{directory}/{MANIFEST} {reason}") from error
        raise WeightsError(f"{directory}/{MANIFEST} is broken: {error}") from error


def unfinished(directory: str) -> WeightsError:
    """What is wrong with a directory that has no manifest, which comes last."""
    return WeightsError(f"{directory} has no {MANIFEST}: publishing did not finish")


def check_digest(manifest: Manifest, version: WeightVersion) -> None:
    """`WeightsError` unless the manifest is this version's."""
    digest = manifest_digest(manifest)
    if digest != version.digest:
        raise WeightsError(f"{version.directory} is not {version}: its manifest has digest {digest[:12]}")


def read_canary(directory: Path) -> Canary:
    """The canary; `WeightsError` when it is missing or broken."""
    try:
        return Canary.model_validate_json((directory / CANARY).read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise WeightsError(f"{directory}/{CANARY} is missing or broken: {error}") from error


def verify(directory: Path, version: WeightVersion | None = None) -> Manifest:
    """Check every file against the manifest, and the manifest against `version`; `WeightsError` names what differs.

    The folder holds what the manifest lists and nothing else: a file more, such as a chat template, would be read too.
    """
    manifest = read_manifest(directory)
    if version is not None:
        check_digest(manifest, version)
    if not manifest.finite:
        raise WeightsError(f"{directory} was not checked for NaN and infinity")
    _check_entries(directory, {file.name for file in manifest.files})
    for file in manifest.files:
        path = directory / file.name
        size = path.stat().st_size
        if size != file.size_bytes:
            raise WeightsError(f"{path} has {size} bytes, its manifest says {file.size_bytes}")
        if sha256(path) != file.sha256:
            raise WeightsError(f"{path} has another sha256 than its manifest says")
    return manifest


def tensor_headers(directory: Path) -> dict[str, TensorHeader]:
    """Name, dtype and shape of every tensor of the directory's safetensors files, without reading the tensors.

    `WeightsError` when there are none, or a file is shorter or longer than its header says.
    """
    headers: dict[str, TensorHeader] = {}
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise WeightsError(f"{directory} holds no safetensors file")
    for file in files:
        headers.update(_headers_of(file))
    return headers


def check_headers(headers: Mapping[str, TensorHeader], expected: Mapping[str, TensorHeader]) -> None:
    """`WeightsError`, naming the first difference, unless both have the same tensors, dtypes and shapes."""
    for name in sorted(expected.keys() | headers.keys()):
        if name not in headers:
            raise WeightsError(f"tensor {name} is missing")
        if name not in expected:
            raise WeightsError(f"tensor {name} is not one of the serving model's")
        if headers[name] != expected[name]:
            raise WeightsError(f"tensor {name} is {headers[name]}, the serving model's is {expected[name]}")


def sha256(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_entries(directory: Path, listed: Set[str]) -> None:
    """`WeightsError` unless the folder's entries are the listed names and the manifest, each a file of its own."""
    found = {entry.name: entry for entry in directory.iterdir()}
    for name in sorted(listed - found.keys()):
        raise WeightsError(f"{directory}: {name} is missing")
    for name in sorted(found.keys() - listed - {MANIFEST}):
        raise WeightsError(f"{found[name]} is not in the manifest: remove it, it was added after publishing")
    for entry in sorted(found.values()):
        if entry.is_symlink() or not entry.is_file():
            raise WeightsError(f"{entry} is no regular file: what it leads to is not this folder's")


def _headers_of(file: Path) -> dict[str, TensorHeader]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 0 < length <= size - 8:
            raise WeightsError(f"{file} is truncated: no complete header")
        try:
            entries = cast(dict[str, dict[str, Any]], json.loads(stream.read(length)))
        except ValueError as error:
            raise WeightsError(f"{file} has a broken header: {error}") from error
    entries.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if 8 + length + end != size:
        raise WeightsError(f"{file} has {size} bytes, its header says {8 + length + end}: truncated or overwritten")
    return {name: TensorHeader(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
