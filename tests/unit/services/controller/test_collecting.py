"""A round of the controller's collector: garbage of every kind goes, and one broken run keeps all that is its own."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from services.controller.collecting import Collector
from services.controller.runs.repository import RunRepository
from shared.contracts.records import Intent
from shared.store.artifacts import layout
from shared.store.artifacts.collecting import COMPARISON_GRACE_S
from shared.store.artifacts.store import DirectoryStore, create_model
from tests.support.specs import a_spec

PULL = {"judge": {"kind": "pull", "name": "anna", "revision": "1"}}
LONG_AGO = time.time() - 10 * COMPARISON_GRACE_S


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def repository(store: DirectoryStore) -> RunRepository:
    return RunRepository(store)


def aged(store: DirectoryStore, key: str, content: bytes = b"{}") -> str:
    """A file that nobody has touched for long."""
    path = store.path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    for touched in (path, path.parent):
        os.utime(touched, (LONG_AGO, LONG_AGO))
    return key


def test_candidates_temporaries_and_comparisons_go_and_artifacts_stay(
    store: DirectoryStore, repository: RunRepository, tmp_path: Path
) -> None:
    run = repository.create(a_spec(tmp_path)).id
    kept = sorted(path for path in store.root.rglob("*") if path.is_file())
    aged(store, f"{layout.weights(run)}/0001-1/model.safetensors")
    temporary = aged(store, f"{layout.run(run)}/.plan.json.17.0123abcd")
    comparison = aged(store, layout.comparison("ab" * 32))
    assert sorted(Collector(repository, store).collect()) == sorted(
        [f"{layout.weights(run)}/0001-1", temporary, comparison]
    )
    assert sorted(path for path in store.root.rglob("*") if path.is_file()) == kept


def test_comparisons_are_kept_while_a_run_with_a_pull_judge_goes_on(
    store: DirectoryStore, repository: RunRepository, tmp_path: Path
) -> None:
    run = repository.create(a_spec(tmp_path, oracle=PULL)).id
    comparison = aged(store, layout.comparison("ab" * 32))
    collector = Collector(repository, store)
    assert collector.collect() == []
    create_model(store, layout.intent(run, 1), Intent(action="cancel"))
    assert collector.collect() == [comparison]


def test_a_run_with_a_torn_record_keeps_everything_and_the_others_are_collected(
    store: DirectoryStore, repository: RunRepository, tmp_path: Path
) -> None:
    torn, whole = (repository.create(a_spec(tmp_path, name=name)).id for name in ("torn", "whole"))
    for run in (torn, whole):
        aged(store, f"{layout.weights(run)}/0000-1/model.safetensors")
        aged(store, f"{layout.weights(run)}/0000-2/model.safetensors")
    store.create(layout.published(layout.base(torn)), b"torn")
    gone = Collector(repository, store).collect()
    assert gone == [f"{layout.weights(whole)}/0000-1", f"{layout.weights(whole)}/0000-2"]


def test_a_store_that_refuses_does_not_end_the_collector(
    store: DirectoryStore, repository: RunRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rounds(threading.Event):
        num = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.num += 1
            return self.num > 3

    def refuse(_folder: str) -> list[str]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(store, "list", refuse)
    rounds = Rounds()
    Collector(repository, store).run(rounds)
    assert rounds.num == 4
