"""Which store this is, and what its system's keys begin with."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shared.store.artifacts.identity import identity_of, namespace_of
from shared.store.artifacts.store import DirectoryStore


def test_every_service_of_a_store_finds_the_same_namespace_whoever_came_first(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = [DirectoryStore(tmp_path) for _ in range(8)]
        names = [found.result() for found in [pool.submit(namespace_of, store, None) for store in stores]]
    assert len(set(names)) == 1
    assert names[0] == f"inpo-{identity_of(DirectoryStore(tmp_path))}"


def test_two_stores_have_two_namespaces_unless_one_is_chosen(tmp_path: Path) -> None:
    one, other = DirectoryStore(tmp_path / "one"), DirectoryStore(tmp_path / "other")
    assert namespace_of(one, None) != namespace_of(other, None)
    assert namespace_of(one, "ours") == namespace_of(other, "ours") == "ours"
