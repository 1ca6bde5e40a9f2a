"""Weights of an object store: complete or refused, fetched once, verified, evicted when they are too many."""

import os
import secrets
from pathlib import Path

import pytest

from shared.contracts.weights import WeightVersion
from shared.store.buckets.object_store import ObjectStore
from shared.store.buckets.staging import IN_USE_S, StagedWeights
from shared.store.weights.manifests import MANIFEST, WeightsError
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.xdist_group("s3")


@pytest.fixture
def url(s3: S3Server) -> str:
    return s3.url(secrets.token_hex(8))


def a_machine(url: str, folder: Path, max_staged_bytes: int = 2**30) -> StagedWeights:
    return StagedWeights(ObjectStore(url, folder, max_staged_bytes))


def a_version(weights: StagedWeights, content: bytes = b"tensors", number: int = 1) -> WeightVersion:
    candidate = weights.begin("run", number)
    (candidate.path / "model.safetensors").write_bytes(content)
    (candidate.path / "config.json").write_text("{}")
    return weights.finish(candidate, parent=None, num_parameters=7)


def bucket(url: str, tmp_path: Path) -> ObjectStore:
    return ObjectStore(url, tmp_path / "nothing", 0)


def test_what_one_machine_keeps_another_has_byte_for_byte(url: str, tmp_path: Path) -> None:
    version = a_version(a_machine(url, tmp_path / "trainer"))
    policy = a_machine(url, tmp_path / "policy")
    folder = policy.local(version)
    assert (folder / "model.safetensors").read_bytes() == b"tensors"
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors", MANIFEST}
    assert policy.manifest(version).num_parameters == 7
    assert policy.address(version) == f"{url}/{version.directory}"


def test_a_version_is_fetched_once_by_a_machine(url: str, tmp_path: Path) -> None:
    """The trainer that made it does not fetch it at all: everything is gone from the store, and it still has it."""
    trainer, policy = a_machine(url, tmp_path / "trainer"), a_machine(url, tmp_path / "policy")
    version = a_version(trainer)
    folder = policy.local(version)
    trainer.remove(version)
    assert policy.local(version) == folder
    assert a_machine(url, tmp_path / "trainer").local(version).is_dir()
    with pytest.raises(WeightsError, match="publishing did not finish"):
        a_machine(url, tmp_path / "late").local(version)


def test_an_upload_that_did_not_come_to_the_manifest_is_no_version(url: str, tmp_path: Path) -> None:
    version = a_version(a_machine(url, tmp_path / "trainer"))
    bucket(url, tmp_path).remove(f"{version.directory}/{MANIFEST}")
    with pytest.raises(WeightsError, match="publishing did not finish"):
        a_machine(url, tmp_path / "policy").local(version)


@pytest.mark.parametrize("content", [b"tensorz", b"tensor", None])
def test_a_damaged_object_is_refused_and_leaves_nothing_behind(url: str, tmp_path: Path, content: bytes | None) -> None:
    """Another byte, one too few, and none at all; what is mended is fetched anew."""
    version = a_version(a_machine(url, tmp_path / "trainer"))
    store, key = bucket(url, tmp_path), f"{version.directory}/model.safetensors"
    store.remove(key)
    if content is not None:
        store.create(key, content)
    policy = a_machine(url, tmp_path / "policy")
    with pytest.raises(WeightsError, match=r"model\.safetensors|incomplete"):
        policy.local(version)
    assert [path.name for path in (tmp_path / "policy").iterdir() if not path.name.endswith(".lock")] == []
    store.remove(key)
    store.create(key, b"tensors")
    assert policy.local(version).is_dir()


def test_another_manifest_than_was_committed_is_refused(url: str, tmp_path: Path) -> None:
    trainer = a_machine(url, tmp_path / "trainer")
    version, other = a_version(trainer), a_version(trainer, b"other")
    swapped = other.model_copy(update={"digest": version.digest})
    with pytest.raises(WeightsError, match="its manifest has digest"):
        a_machine(url, tmp_path / "policy").local(swapped)


def test_the_longest_unused_go_first_and_what_is_in_use_stays(url: str, tmp_path: Path) -> None:
    """Room for none: each fetch evicts what nobody has asked for lately, and nothing else."""
    versions = [a_version(a_machine(url, tmp_path / "trainer"), bytes([number]), number) for number in range(3)]
    policy = a_machine(url, tmp_path / "policy", max_staged_bytes=0)
    first, second = policy.local(versions[0]), policy.local(versions[1])
    assert first.is_dir(), "asked for a moment ago: somebody may be reading it"
    old_s = first.stat().st_mtime - IN_USE_S - 1
    os.utime(first, (old_s, old_s))
    third = policy.local(versions[2])
    assert not first.exists()
    assert second.is_dir()
    assert third.is_dir()
    assert policy.local(versions[0]).is_dir(), "evicted is not lost"


def test_two_candidates_of_a_version_never_share_a_folder(url: str, tmp_path: Path) -> None:
    weights = a_machine(url, tmp_path)
    one, two = weights.begin("run", 3, 1), weights.begin("run", 3, 1)
    assert one.key.startswith("runs/run/weights/0003.half-1-")
    assert (one.key, one.path) != (two.key, two.path)


def test_what_killed_processes_left_on_this_machine_goes_and_what_is_held_stays(url: str, tmp_path: Path) -> None:
    """A candidate and a fetch that nobody has touched for long go; a candidate that is being written stays."""
    weights = a_machine(url, tmp_path)
    written = weights.begin("run", 1)
    candidate, fetch = tmp_path / "candidates" / "of-a-killed-trainer", tmp_path / f".{'0' * 64}.abcd"
    for folder in (candidate, fetch):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
    old_s = candidate.stat().st_mtime - IN_USE_S - 1
    for folder in (candidate, fetch, written.path):
        os.utime(folder, (old_s, old_s))
    weights.begin("run", 2)
    assert not candidate.exists()
    assert not fetch.exists()
    assert written.path.exists()
