"""Storage that refuses is a status with a reason and a remedy; no request is answered by a 500."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI

from services.controller.api.app import controller_app
from services.controller.loop import ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from shared.store.artifacts.store import DirectoryStore
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.asking import ask
from tests.support.specs import a_spec_body


@pytest.fixture
def loop(tmp_path: Path) -> ReconcileLoop:
    queue = MemoryQueue(lambda: 0.0, lease_s=30.0)
    return ReconcileLoop(RunRepository(DirectoryStore(tmp_path / "store")), queue)


@pytest.fixture
def app(tmp_path: Path, loop: ReconcileLoop) -> FastAPI:
    queue = MemoryQueue(lambda: 0.0, lease_s=30.0)
    return controller_app(ControllerSettings(), DirectoryStore(tmp_path / "store"), queue, queue, loop)


def refusing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Every file that is synced to the disk is refused."""

    def refuse(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}], ids=["plain", "with an idempotency key"])
@pytest.mark.parametrize(
    ("number", "status", "reason", "remedy"),
    [
        (errno.ENOSPC, 507, "No space left on device", "make room"),
        (errno.EDQUOT, 507, "Disk quota exceeded", "make room"),
        (errno.EROFS, 503, "Read-only file system", "make it writable"),
        (errno.EACCES, 503, "Permission denied", "make it writable"),
        (errno.EIO, 503, "Input/output error", "look at the disk"),
    ],
)
def test_creating_a_run_on_storage_that_refuses_is_a_status_with_reason_and_remedy(
    app: FastAPI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
    number: int,
    status: int,
    reason: str,
    remedy: str,
) -> None:
    body = a_spec_body(tmp_path)
    with monkeypatch.context() as patch:
        refusing(patch, number)
        answer = ask(app, "POST", "/v1/runs", json=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert reason in answer.json()["detail"]
    assert remedy in answer.json()["detail"]
    assert str(tmp_path) not in answer.text
    assert answer.json()["retryable"] is True
    assert int(answer.headers["retry-after"]) > 0
    again = ask(app, "POST", "/v1/runs", json=body, headers=headers)
    assert again.status_code == 201, again.text


def test_readiness_names_a_store_that_refuses(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, errno.ENOSPC)
    answer = ask(app, "GET", "/readyz")
    assert answer.status_code == 503
    (part,) = answer.json()["errors"]
    assert part["field"] == "store"
    assert "the storage is full: No space left on device" in part["message"]


def test_readiness_names_a_reconciler_that_has_ended(app: FastAPI, loop: ReconcileLoop) -> None:
    loop.last_error = "has ended"
    assert ask(app, "GET", "/readyz").json()["detail"] == "reconciler: has ended"


def test_a_run_says_what_keeps_the_controller_from_going_on(app: FastAPI, loop: ReconcileLoop, tmp_path: Path) -> None:
    run = ask(app, "POST", "/v1/runs", json=a_spec_body(tmp_path)).json()["id"]
    loop.last_error = "the storage is full"
    told = "the controller waits: the storage is full"
    assert ask(app, "GET", f"/v1/runs/{run}").json()["progress"]["waiting"] == told
    assert ask(app, "GET", "/v1/runs").json()["runs"][0]["progress"]["waiting"] == told


def test_an_error_of_the_system_that_is_not_about_storage_stays_a_500(
    app: FastAPI, loop: ReconcileLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Callable[[], None]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(loop.repository, "page", broken)
    assert ask(app, "GET", "/v1/runs").status_code == 500
