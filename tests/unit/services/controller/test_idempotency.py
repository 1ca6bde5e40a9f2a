"""`Idempotency-Key` on the controller's POSTs: whatever is repeated, and whenever, happens once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.controller.api.app import controller_app
from services.controller.loop import ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from shared.contracts.work import Event
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore
from shared.store.queue.memory_queue import MemoryQueue
from shared.store.queue.protocol import QueueUnavailableError
from tests.support.published import commit_weights, weights_without_a_model
from tests.support.specs import a_spec_body

KEY = "7f9c2ba4-e88f"


class FlakyQueue(MemoryQueue):
    """Redis goes away when an event is published, as often as `failures` says."""

    failures = 0

    def publish(self, event: Event) -> None:
        if self.failures and event.type != "run_created":
            self.failures -= 1
            raise QueueUnavailableError("connection refused")
        super().publish(event)


class System:
    """A store, and controllers over it that come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = DirectoryStore(folder / "store")
        self.queue = FlakyQueue(lambda: 0.0, lease_s=30.0)
        self.app = self.start()

    def start(self) -> FastAPI:
        loop = ReconcileLoop(RunRepository(self.store), self.queue)
        return controller_app(ControllerSettings(), self.store, self.queue, self.queue, loop)

    def post(self, path: str, key: str | list[str] = KEY, app: FastAPI | None = None, **kwargs: Any) -> httpx.Response:
        keys = [key] if isinstance(key, str) else key
        headers = [(b"Idempotency-Key", value.encode("latin-1")) for value in keys]

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=app or self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.post(path, headers=headers, **kwargs)

        return asyncio.run(send())

    def runs(self) -> list[str]:
        return self.store.list("runs")


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_a_creation_that_is_repeated_makes_one_run_and_gets_the_same_answer(system: System, tmp_path: Path) -> None:
    """Also after a restart, and when the body's fields come in another order."""
    body = a_spec_body(tmp_path)
    first = system.post("/v1/runs", json=body)
    assert first.status_code == 201
    assert "idempotent-replayed" not in first.headers
    reordered = dict(reversed(list(body.items())))
    for app in (system.app, system.start()):
        again = system.post("/v1/runs", app=app, json=reordered)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["content-type"] == first.headers["content-type"]
        assert again.headers["idempotent-replayed"] == "true"
    assert system.runs() == [first.json()["id"]]
    assert system.post("/v1/runs", key="another", json=body).json()["id"] != first.json()["id"]


def test_a_refusal_is_repeated_as_well(system: System, tmp_path: Path) -> None:
    body = a_spec_body(tmp_path, model={"path": "/nowhere"})
    first = system.post("/v1/runs", json=body)
    assert first.status_code == 422
    assert system.post("/v1/runs", json=body).content == first.content


def test_another_body_under_the_same_key_is_refused(system: System, tmp_path: Path) -> None:
    system.post("/v1/runs", json=a_spec_body(tmp_path))
    refused = system.post("/v1/runs", json=a_spec_body(tmp_path, seed=8))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "Idempotency-Key"
    assert len(system.runs()) == 1


@pytest.mark.parametrize("key", ["", "k" * 256, "café", ["one", "two"]], ids=repr)
def test_a_key_that_is_none_is_refused_naming_the_header(system: System, tmp_path: Path, key: Any) -> None:
    refused = system.post("/v1/runs", key=key, json=a_spec_body(tmp_path))
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert refused.json()["errors"][0]["field"] == "Idempotency-Key"
    assert system.runs() == []


def test_many_at_the_same_moment_make_one_run_and_learn_its_id_or_when_to_ask_again(
    system: System, tmp_path: Path
) -> None:
    body = a_spec_body(tmp_path)
    apps = [system.app, system.start(), system.start()]

    def create(app: FastAPI) -> httpx.Response:
        return system.post("/v1/runs", app=app, json=body)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(create, apps * 2))
    for answer in answers:
        assert answer.status_code in (201, 409)
        if answer.status_code == 409:
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["retryable"] is True
    assert len(system.runs()) == 1
    assert system.post("/v1/runs", json=body).json()["id"] == system.runs()[0]


def test_a_controller_that_died_between_making_the_run_and_answering_makes_no_second_one(
    system: System, tmp_path: Path
) -> None:
    """As after kill -9: the run and the claim are there, the answer is not; the claim's holder is gone.

    The next process waits out the claim; here its time is made over by hand.
    """
    body = a_spec_body(tmp_path)
    made = system.post("/v1/runs", json=body).json()["id"]
    (folder,) = system.store.path("idempotency").iterdir()
    (folder / "answer.json").unlink()
    claim = folder / "claim-0001.json"
    assert system.post("/v1/runs", app=system.start(), json=body).status_code == 409
    claim.write_text('{"holder": "gone", "at_s": 0}')
    again = system.post("/v1/runs", app=system.start(), json=body)
    assert (again.status_code, again.json()["id"]) == (201, made)
    assert system.runs() == [made]


def test_a_pause_that_got_no_answer_can_be_sent_again(system: System, tmp_path: Path) -> None:
    """Redis goes away after the intent is written: 503. Sent again, the request finds its work done and adds none."""
    run = system.post("/v1/runs", json=a_spec_body(tmp_path)).json()["id"]
    system.queue.failures = 1
    assert system.post(f"/v1/runs/{run}:pause").status_code == 503
    for _ in range(2):
        paused = system.post(f"/v1/runs/{run}:pause")
        assert (paused.status_code, paused.json()["state"]) == (200, "paused")
    assert system.post(f"/v1/runs/{run}:pause", key="another").status_code == 409
    assert len(system.store.list(layout.intents(run))) == 1


def test_a_key_is_bound_to_its_route(system: System, tmp_path: Path) -> None:
    run = system.post("/v1/runs", json=a_spec_body(tmp_path)).json()["id"]
    assert system.post(f"/v1/runs/{run}:pause").json()["state"] == "paused"
    assert system.post(f"/v1/runs/{run}:resume").json()["state"] == "running"


def test_a_rollback_that_is_repeated_goes_back_once(system: System, tmp_path: Path) -> None:
    run = system.post("/v1/runs", json=a_spec_body(tmp_path)).json()["id"]
    for number in range(3):
        version = commit_weights(system.store, weights_without_a_model(system.store, run, number))
        assert system.post(f"/v1/weights/{version.name}:promote").status_code == 200
    assert [system.post("/v1/weights:rollback").json()["version"]["number"] for _ in range(3)] == [1, 1, 1]
    assert system.post("/v1/weights:rollback", key="another").json()["version"]["number"] == 0
