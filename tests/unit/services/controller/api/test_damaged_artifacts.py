"""One run never hurts another: whatever of it is missing, torn or empty is its own state, and no answer is a 5xx."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from services.controller.api.app import controller_app
from services.controller.loop import ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from shared.contracts.records import Intent, PublishedWeights, Skipped
from shared.contracts.weights import Manifest
from shared.store.artifacts import layout, promotions
from shared.store.artifacts.store import DirectoryStore, create_model, read_model
from shared.store.artifacts.tables import create_table
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.simulation import Simulation, small_spec

DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _: None,
    "torn": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "newer": lambda data: data.replace(b"{", b'{ "added_by_a_newer_version": 1,', 1),
}


def _finished(folder: Path) -> Simulation:
    simulation = Simulation(small_spec(folder), seed=1, faults=0)
    simulation.run()
    return simulation


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """All artifacts of a run that succeeded, was resumed once, and whose weights have manifests and were promoted."""
    simulation = _finished(tmp_path_factory.mktemp("finished"))
    store = simulation.store
    create_model(store, layout.intent("run", 1), Intent(action="resume"))
    create_table(store, layout.skipped("run"), Skipped, [Skipped(id="p:1", reason="empty")])
    for key in [key for key in store.objects if key.endswith("weights.json")]:
        version = read_model(store, key, PublishedWeights).version
        manifest = Manifest(number=version.number, parent=None, files=[], num_parameters=1, finite=True)
        create_model(store, f"{version.directory}/manifest.json", manifest)
        promotions.promote(store, version, by="me")
    return store.objects


KINDS = [
    "prompts.parquet",
    "skipped.parquet",
    "run.json",
    "intents/0001.json",
    "base/plan.json",
    "base/weights.json",
    "iterations/0002/half-1/plan.json",
    "iterations/0002/half-1/weights.json",
    "iterations/0002/half-1/rollouts/00001.parquet",
    "iterations/0002/half-1/judgments/00001.parquet",
    "iterations/0002/half-1/pairs/00000.parquet",
    "iterations/0002/commit.json",
    "iterations/0001/commit.json",
    "evaluations/0002/plan.json",
    "evaluations/0002/rollouts/00000.parquet",
    "evaluations/0002/judgments/00000.parquet",
    "evaluations/0002/scores.json",
    "evaluations/0002/result.json",
    "evaluations/0001/result.json",
    "weights/1-1/manifest.json",
    "../../promotions/0001.json",
    "../../promotions/0002.json",
    "../../promotions/0003.json",
]


def _key(kind: str) -> str:
    return kind.removeprefix("../../") if kind.startswith("../../") else f"{layout.run('run')}/{kind}"


def test_every_kind_of_artifact_of_a_finished_run_is_damaged_below(finished: dict[str, bytes]) -> None:
    there = {re.sub(r"\d+", "N", key) for key in finished}
    assert {re.sub(r"\d+", "N", _key(kind)) for kind in KINDS} == there


def _app(store: DirectoryStore) -> FastAPI:
    queue = MemoryQueue(lambda: 0.0, lease_s=30.0)
    return controller_app(ControllerSettings(), store, queue, queue, ReconcileLoop(RunRepository(store), queue))


def _get(app: FastAPI, paths: list[str]) -> dict[str, httpx.Response]:
    async def get() -> dict[str, httpx.Response]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            return {path: await client.get(path) for path in paths}

    return asyncio.run(get())


EVERYTHING = [
    "/v1/runs",
    "/v1/runs/run",
    "/v1/runs/run/iterations",
    "/v1/runs/run/iterations?digests=true",
    "/v1/runs/run/pairs?iteration=2",
    "/v1/runs/run/skipped",
    "/v1/runs/run/skipped?iteration=2",
    "/v1/weights",
    "/v1/weights/promoted",
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_of_a_damaged_finished_run_everything_is_answered(
    finished: dict[str, bytes], tmp_path: Path, kind: str, damage: str
) -> None:
    """The run is listed still, and somewhere the answers name what is missing or torn, unless nobody needs it."""
    store = DirectoryStore(tmp_path)
    damaged = DAMAGES[damage](finished[_key(kind)])
    for key, data in finished.items():
        written = damaged if key == _key(kind) else data
        if written is not None:
            path = store.path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(written)
    answers = _get(_app(store), EVERYTHING)
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(EVERYTHING, 200)
    assert [view["id"] for view in answers["/v1/runs"].json()["runs"]] == ["run"]
    if kind == "run.json":
        assert answers["/v1/runs"].json()["runs"][0]["state"] == "unreadable"
    if kind.startswith("weights/"):
        assert [item["number"] for item in answers["/v1/weights"].json()["damaged"]] == [1]
        assert [item["version"]["number"] for item in answers["/v1/weights"].json()["weights"]] == [0, 2]


class _Two(Simulation):
    """A run that is damaged in the middle, and one behind it, under the controller's own loop."""

    def __init__(self, folder: Path) -> None:
        spec = small_spec(folder)
        super().__init__(spec, seed=1, faults=0)
        self.faulty = False
        self.loop = ReconcileLoop(RunRepository(self.store), self.queue)
        self.behind = self.loop.repository.create(spec)

    def step(self) -> None:
        """One look, then all the work that it asked for."""
        self.loop.reconcile()
        for kind in ("generate", "judge", "train"):
            for _ in range(8):
                self._work(kind)
        self.now += 1.0

    def forget(self) -> None:
        """As after a restart: nothing is remembered."""
        self.loop = ReconcileLoop(RunRepository(self.store), self.queue)


@pytest.mark.parametrize("damage", ["missing", "torn", "empty"])
@pytest.mark.parametrize(
    "kind",
    [
        "prompts.parquet",
        "run.json",
        "intents/0001.json",
        "base/plan.json",
        "base/weights.json",
        "iterations/0001/half-1/plan.json",
        "iterations/0001/half-1/rollouts/00000.parquet",
        "iterations/0001/half-1/judgments/00000.parquet",
        "iterations/0001/half-1/pairs/00000.parquet",
        "iterations/0001/half-1/weights.json",
        "iterations/0001/commit.json",
        "evaluations/0000/plan.json",
        "evaluations/0000/rollouts/00000.parquet",
    ],
)
def test_a_running_run_that_is_damaged_at_any_moment_holds_up_no_other(tmp_path: Path, kind: str, damage: str) -> None:
    """Damaged the moment that the artifact is there; the one behind it succeeds, whatever becomes of the first."""
    two = _Two(tmp_path)
    create_model(two.store, layout.intent("run", 1), Intent(action="resume"))
    key = f"{layout.run('run')}/{kind}"
    for _ in range(60):
        if key in two.store.objects:
            break
        two.step()
    damaged = DAMAGES[damage](two.store.objects.pop(key))
    if damaged is not None:
        two.store.objects[key] = damaged
    two.forget()
    for _ in range(120):
        if two.loop.repository.view(two.behind).state == "succeeded":
            return
        two.step()
    raise AssertionError(two.loop.repository.page(None, 10))
