"""What every artifact store promises, proved for directories, for S3 and for the twin in memory."""

import multiprocessing
import secrets
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.contracts.records import Intent
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.store import (
    ArtifactStore,
    CorruptArtifactError,
    DirectoryStore,
    MissingArtifactError,
    create_model,
    read_model,
)
from shared.store.buckets.object_store import ObjectStore
from tests.support.racing import race
from tests.support.s3_server import S3Server


@pytest.fixture(params=["directory", "memory", pytest.param("s3", marks=pytest.mark.xdist_group("s3"))])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "directory":
        return DirectoryStore(tmp_path / "store")
    s3: S3Server = request.getfixturevalue("s3")
    return ObjectStore(s3.url(secrets.token_hex(8)), tmp_path, 0)


def test_what_is_created_is_read_and_never_overwritten(store: ArtifactStore) -> None:
    assert store.create("runs/one/run.json", b"first")
    assert not store.create("runs/one/run.json", b"second")
    assert store.read("runs/one/run.json") == b"first"


def test_an_empty_object_is_an_object(store: ArtifactStore) -> None:
    assert store.create("runs/empty", b"")
    assert store.exists("runs/empty")
    assert store.read("runs/empty") == b""


def test_a_free_key_is_missing(store: ArtifactStore) -> None:
    assert not store.exists("runs/none")
    with pytest.raises(MissingArtifactError, match="runs/none"):
        store.read("runs/none")


def test_a_folder_lists_its_children_once_and_sorted(store: ArtifactStore) -> None:
    for key in ("runs/b/pairs/1", "runs/b/pairs/0", "runs/a/run.json", "runs-old/x", "runs/b.json"):
        store.create(key, b"")
    assert store.list("runs") == ["a", "b", "b.json"]
    assert store.list("runs/b/pairs") == ["0", "1"]
    assert store.list("runs/c") == []
    assert store.exists("runs/a/run.json")


def test_a_folder_of_records_whose_time_is_over_is_taken_out_as_a_whole(store: ArtifactStore) -> None:
    for key in ("asked/one/answer", "asked/one/request", "asked/one-more/request"):
        store.create(key, b"")
    store.remove("asked/one")
    store.remove("asked/never")
    assert store.list("asked") == ["one-more"]
    assert store.create("asked/one/request", b"again")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "runs/../../x", "runs//x", "runs/./x", "runs/"])
def test_a_key_that_leads_out_of_the_store_is_refused(store: ArtifactStore, key: str) -> None:
    for call in (store.read, store.exists, store.list):
        with pytest.raises(ValueError, match="not an artifact key"):
            call(key)
    with pytest.raises(ValueError, match="not an artifact key"):
        store.create(key, b"")


def test_threads_that_race_for_a_key_have_one_winner(store: ArtifactStore) -> None:
    def try_all(name: int) -> list[int]:
        return [number for number in range(50) if store.create(f"races/{number}", str(name).encode())]

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(try_all, range(4)))
    assert sorted(number for numbers in won for number in numbers) == list(range(50))
    for name, numbers in enumerate(won):
        assert {store.read(f"races/{number}") for number in numbers} <= {str(name).encode()}


def test_processes_that_race_for_a_key_have_one_winner_in_each_of_200_races(tmp_path: Path) -> None:
    names = ["one", "two", "three"]
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        won = list(pool.map(race, [tmp_path] * 3, names, [200] * 3))
    assert sorted(number for numbers in won for number in numbers) == list(range(200))
    store = DirectoryStore(tmp_path)
    for name, numbers in zip(names, won, strict=True):
        assert all(store.read(f"races/{number:04d}") == name.encode() for number in numbers)
    assert len(list((tmp_path / "races").iterdir())) == 200, "no temporary file stays behind"


def test_an_unfinished_write_is_invisible(tmp_path: Path) -> None:
    """A process that died while writing leaves a hidden file: not listed, and the key stays free."""
    store = DirectoryStore(tmp_path)
    store.create("pairs/00000", b"whole")
    (tmp_path / "pairs" / ".00001.99.abcd").write_bytes(b"half")
    assert store.list("pairs") == ["00000"]
    assert store.create("pairs/00001", b"whole")


def test_models_are_stored_as_json_and_a_broken_one_names_its_key(store: ArtifactStore) -> None:
    intent = Intent(action="failed", reason="ünlucky")
    assert create_model(store, "intents/1.json", intent)
    assert not create_model(store, "intents/1.json", Intent(action="resume"))
    assert read_model(store, "intents/1.json", Intent) == intent
    for number, data in enumerate([b"", b"{", b'{"action": "dance"}', b'{"action": "pause", "new": 1}'], 2):
        store.create(f"intents/{number}.json", data)
        with pytest.raises(CorruptArtifactError, match=f"intents/{number}.json"):
            read_model(store, f"intents/{number}.json", Intent)
