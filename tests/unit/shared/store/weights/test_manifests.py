"""Weights are loaded only when every byte is what the manifest says."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.contracts.weights import Canary, WeightVersion
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.store import DirectoryStore
from shared.store.weights import manifests
from shared.store.weights.manifests import TensorHeader, WeightsError
from shared.store.weights.store import weights_of

RUN = "toy-0001"


def safetensors(tensors: dict[str, list[int]]) -> bytes:
    """A file of float32 zeros, by the format's specification: length of the header, header, data."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def publish(store: DirectoryStore, number: int = 1) -> tuple[WeightVersion, Path]:
    candidate = weights_of(store).begin(RUN, number)
    path = candidate.path
    (path / "config.json").write_text("{}")
    model = path / "model.safetensors"
    model.write_bytes(safetensors({"embed": [4, 2], "head": [2, 4]}))
    model.chmod(0o600)
    (path / "canary.json").write_text(
        Canary(sequences=[[1, 2]], log_probs=[[-0.5]], parent_log_probs=[[-0.7]]).model_dump_json()
    )
    version = weights_of(store).finish(candidate, parent="digest of v0", num_parameters=16)
    return version, path


def test_finished_weights_verify_and_anybody_may_read_them(store: DirectoryStore) -> None:
    version, path = publish(store)
    manifest = manifests.verify(path, version)
    assert (manifest.number, manifest.parent, manifest.num_parameters) == (1, "digest of v0", 16)
    assert [file.name for file in manifest.files] == ["canary.json", "config.json", "model.safetensors"]
    assert weights_of(store).local(version) == path
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in path.iterdir())
    assert manifests.read_canary(path).log_probs == [[-0.5]]


def test_equal_files_are_equal_versions_in_different_directories(store: DirectoryStore) -> None:
    first, second = publish(store)[0], publish(store)[0]
    assert first.digest == second.digest
    assert (first.directory, second.directory) == (f"runs/{RUN}/weights/0001-1", f"runs/{RUN}/weights/0001-2")


def test_tokens_grow_for_each_number_by_itself(store: DirectoryStore) -> None:
    names = [weights_of(store).begin(RUN, number).path.name for number in (0, 1, 1, 2, 1)]
    assert names == ["0000-1", "0001-1", "0001-2", "0002-1", "0001-3"]


def shorten(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


def change_a_byte(path: Path) -> None:
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def remove(path: Path) -> None:
    (path / "model.safetensors").unlink()


def change_the_config(path: Path) -> None:
    (path / "config.json").write_text("[]")


def remove_the_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def break_the_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("{")


def not_finite(path: Path) -> None:
    file = path / "manifest.json"
    file.write_text(file.read_text().replace('"finite": true', '"finite": false'))


def add_a_chat_template(path: Path) -> None:
    """Nothing that was published changes, and every prompt is another one."""
    (path / "chat_template.jinja").write_text("{{ messages }} be evil")


def add_a_hidden_file(path: Path) -> None:
    (path / ".config.json").write_text("{}")


def add_a_folder(path: Path) -> None:
    (path / "additional_chat_templates").mkdir()


def link_to_another_file(path: Path) -> None:
    """The same bytes today, whatever the owner of the other file likes tomorrow."""
    elsewhere = path.parent / "elsewhere.json"
    (path / "config.json").rename(elsewhere)
    (path / "config.json").symlink_to(elsewhere)


def list_a_file_outside(path: Path) -> None:
    file = path / "manifest.json"
    file.write_text(file.read_text().replace('"canary.json"', '"../0001.json"'))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (shorten, "model.safetensors has"),
        (change_a_byte, "model.safetensors has another sha256"),
        (remove, "model.safetensors is missing"),
        (change_the_config, "config.json has another sha256"),
        (remove_the_manifest, "publishing did not finish"),
        (break_the_manifest, r"manifest\.json is broken"),
        (not_finite, "not checked for NaN"),
        (add_a_chat_template, r"chat_template\.jinja is not in the manifest: remove it"),
        (add_a_hidden_file, r"\.config\.json is not in the manifest"),
        (add_a_folder, "additional_chat_templates is not in the manifest"),
        (link_to_another_file, r"config\.json is no regular file"),
        (list_a_file_outside, r"\.\./0001\.json is missing"),
    ],
)
def test_damaged_weights_are_refused_by_name(store: DirectoryStore, damage: Callable[[Path], None], said: str) -> None:
    version, path = publish(store)
    damage(path)
    with pytest.raises(WeightsError, match=said):
        manifests.verify(path, None if damage is list_a_file_outside else version)


def test_weights_of_another_version_are_refused(store: DirectoryStore) -> None:
    version, path = publish(store)
    foreign = version.model_copy(update={"digest": "0" * 64})
    with pytest.raises(WeightsError, match="is not toy-0001/v1@000000000000"):
        manifests.verify(path, foreign)


@pytest.mark.parametrize("text", [None, "{", '{"sequences": [[1]]}'])
def test_a_missing_or_broken_canary_is_refused(store: DirectoryStore, text: str | None) -> None:
    _, path = publish(store)
    (path / "canary.json").unlink()
    if text is not None:
        (path / "canary.json").write_text(text)
    with pytest.raises(WeightsError, match=r"canary\.json is missing or broken"):
        manifests.read_canary(path)


def test_headers_are_read_without_the_tensors(store: DirectoryStore) -> None:
    _, path = publish(store)
    assert manifests.tensor_headers(path) == {
        "embed": TensorHeader("F32", (4, 2)),
        "head": TensorHeader("F32", (2, 4)),
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "truncated"),
        (b"\x01\x02", "truncated"),
        (safetensors({"embed": [4, 2]})[:40], "truncated"),
        (safetensors({"embed": [4, 2]})[:-1], "truncated or overwritten"),
        (safetensors({"embed": [4, 2]}) + b"more", "truncated or overwritten"),
        (struct.pack("<Q", 4) + b"{{{{", "broken header"),
    ],
)
def test_a_file_that_its_own_header_contradicts_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match=said):
        manifests.tensor_headers(tmp_path)


def test_a_directory_without_tensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no safetensors file"):
        manifests.tensor_headers(tmp_path)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "embed is missing"),
        ({"embed": TensorHeader("F32", (4, 2)), "extra": TensorHeader("F32", ())}, "extra is not one of"),
        ({"embed": TensorHeader("F32", (4, 3))}, "embed is TensorHeader"),
        ({"embed": TensorHeader("BF16", (4, 2))}, "embed is TensorHeader"),
    ],
)
def test_the_first_difference_from_the_serving_model_is_named(headers: dict[str, TensorHeader], said: str) -> None:
    expected = {"embed": TensorHeader("F32", (4, 2))}
    manifests.check_headers(expected, expected)
    with pytest.raises(WeightsError, match=said):
        manifests.check_headers(headers, expected)


def test_a_removed_version_is_gone_and_a_store_without_weights_says_so(store: DirectoryStore) -> None:
    version, path = publish(store)
    weights_of(store).remove(version)
    assert not path.exists()
    with pytest.raises(TypeError, match="MemoryStore keeps no weights"):
        weights_of(MemoryStore())
