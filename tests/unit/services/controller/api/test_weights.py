"""Promoting and rolling back over REST: committed versions only, with who and when, and never a gap in the history."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from services.controller.api.app import controller_app
from services.controller.loop import ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from shared.contracts.weights import WeightVersion
from shared.runtime.key_files import write_private
from shared.store.artifacts.store import DirectoryStore
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.asking import ask
from tests.support.published import a_stored_run, commit_weights, weights_without_a_model


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def versions(store: DirectoryStore, tmp_path: Path) -> list[WeightVersion]:
    """Three committed versions of one run."""
    run = a_stored_run(store, tmp_path)
    return [commit_weights(store, weights_without_a_model(store, run, number)) for number in range(3)]


def an_app(store: DirectoryStore, **settings: Any) -> FastAPI:
    queue = MemoryQueue(lambda: 0.0, lease_s=30.0)
    loop = ReconcileLoop(RunRepository(store), queue)
    return controller_app(ControllerSettings(**settings), store, queue, queue, loop)


def test_a_promoted_version_is_current_until_it_is_rolled_back(
    store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    app = an_app(store)
    assert ask(app, "GET", "/v1/weights/promoted").json() == {"current": None, "history": [], "problem": None}
    for version in versions:
        made = ask(app, "POST", f"/v1/weights/{version.name}:promote")
        assert (made.status_code, made.json()["version"]) == (200, version.model_dump()), made.text
    current = ask(app, "GET", "/v1/weights/promoted").json()["current"]
    assert (current["version"]["number"], current["by"]) == (2, "this machine, without a key")
    assert ask(app, "POST", "/v1/weights:rollback").json()["version"]["number"] == 1
    assert [item["version"]["number"] for item in ask(app, "GET", "/v1/weights/promoted").json()["history"]] == [
        1,
        2,
        1,
        0,
    ]


def test_only_committed_versions_can_be_promoted(store: DirectoryStore, versions: list[WeightVersion]) -> None:
    """Number 3 is published but not committed, number 4 does not exist, and no other run is there."""
    app, run = an_app(store), versions[0].run
    weights_without_a_model(store, run, 3)
    for name, status in ((f"{run}@3", 404), (f"{run}@4", 404), ("another@0", 404), (run, 404), ("a@b@1", 422)):
        response = ask(app, "POST", f"/v1/weights/{name}:promote")
        assert response.status_code in (status, 422), name
        assert response.headers["content-type"] == "application/problem+json"
    assert ask(app, "GET", "/v1/weights/promoted").json()["current"] is None


def test_weights_that_are_not_what_was_committed_are_not_promoted(
    store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    app, version = an_app(store), versions[1]
    manifest = store.path(version.directory) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"sha256": "', '"sha256": "0'))
    damaged = ask(app, "POST", f"/v1/weights/{version.name}:promote")
    assert (damaged.status_code, damaged.json()["title"]) == (409, "Weights damaged")
    manifest.unlink()
    assert ask(app, "POST", f"/v1/weights/{version.name}:promote").status_code == 409


def test_a_rollback_beyond_the_first_promotion_is_a_conflict(
    store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    app = an_app(store)
    assert ask(app, "POST", "/v1/weights:rollback").status_code == 409
    ask(app, "POST", f"/v1/weights/{versions[0].name}:promote")
    assert "nothing was promoted before" in ask(app, "POST", "/v1/weights:rollback").json()["detail"]


def test_the_history_says_which_key_asked_and_not_the_key(
    store: DirectoryStore, versions: list[WeightVersion], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    write_private(keys, "read looker\noperate operator-key\n")
    app = an_app(store, api_key_file=keys)
    for key, status in (("looker", 403), ("operator-key", 200)):
        headers = {"Authorization": f"Bearer {key}"}
        assert ask(app, "POST", f"/v1/weights/{versions[0].name}:promote", headers=headers).status_code == status
    promoted = ask(app, "GET", "/v1/weights/promoted", headers={"Authorization": "Bearer looker"})
    assert promoted.json()["current"]["by"] == "key file, line 2"
    assert "operator-key" not in promoted.text
