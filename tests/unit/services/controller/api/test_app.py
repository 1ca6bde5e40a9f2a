"""The controller's REST API over the twins of store and queue: clear answers, never a 500."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from services.controller.api.app import controller_app
from services.controller.loop import ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from shared.contracts.records import Commit, PublishedWeights, Skipped
from shared.contracts.weights import WeightVersion
from shared.runtime.http import readiness
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, create_model
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.asking import ask
from tests.support.data import outside_data
from tests.support.specs import a_spec_body


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue(lambda: 0.0, lease_s=30.0)


@pytest.fixture
def loop(tmp_path: Path, queue: MemoryQueue) -> ReconcileLoop:
    return ReconcileLoop(RunRepository(DirectoryStore(tmp_path / "store")), queue)


@pytest.fixture
def app(tmp_path: Path, queue: MemoryQueue, loop: ReconcileLoop) -> FastAPI:
    return controller_app(ControllerSettings(), DirectoryStore(tmp_path / "store"), queue, queue, loop)


def _create(app: FastAPI, body: dict[str, Any]) -> dict[str, Any]:
    response = ask(app, "POST", "/v1/runs", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def test_a_created_run_is_active_listed_and_found(app: FastAPI, tmp_path: Path) -> None:
    run = _create(app, a_spec_body(tmp_path))
    assert run["state"] == "running"
    assert run["progress"] == {
        "iteration": 1,
        "num_iterations": 3,
        "half": 1,
        "num_halves": 1,
        "phase": "preparing",
        "done": 0,
        "total": 1,
        "dead": 0,
        "waiting": None,
    }
    assert run["num_prompts"] == 12
    assert [view["id"] for view in ask(app, "GET", "/v1/runs").json()["runs"]] == [run["id"]]
    assert ask(app, "GET", f"/v1/runs/{run['id']}").json() == run


def test_a_second_run_waits_for_the_first(app: FastAPI, tmp_path: Path) -> None:
    first = _create(app, a_spec_body(tmp_path))
    second = _create(app, a_spec_body(tmp_path))
    assert (first["state"], second["state"]) == ("running", "queued")
    cancelled = ask(app, "POST", f"/v1/runs/{first['id']}:cancel").json()
    assert cancelled["state"] == "cancelled"
    assert ask(app, "GET", f"/v1/runs/{second['id']}").json()["state"] == "running"


def test_pause_and_resume_are_obeyed_and_refused_where_they_make_no_sense(
    app: FastAPI, loop: ReconcileLoop, queue: MemoryQueue, tmp_path: Path
) -> None:
    run = _create(app, a_spec_body(tmp_path))["id"]
    assert ask(app, "POST", f"/v1/runs/{run}:pause").json()["state"] == "paused"
    assert loop.reconcile() == 0
    refused = ask(app, "POST", f"/v1/runs/{run}:pause")
    assert (refused.status_code, refused.json()["detail"]) == (409, "cannot pause a run that is paused")
    assert ask(app, "POST", f"/v1/runs/{run}:resume").json()["state"] == "running"
    assert loop.reconcile() + loop.reconcile() == 2
    assert queue.outstanding(run) == {f"{layout.base(run)}:train:00000"}
    assert ask(app, "POST", f"/v1/runs/{run}:explode").status_code == 422


def test_cancelling_forgets_the_runs_waiting_work(
    app: FastAPI, loop: ReconcileLoop, queue: MemoryQueue, tmp_path: Path
) -> None:
    run = _create(app, a_spec_body(tmp_path))["id"]
    loop.reconcile()
    loop.reconcile()
    assert queue.outstanding(run)
    ask(app, "POST", f"/v1/runs/{run}:cancel")
    assert queue.outstanding(run) == set()


BAD_SPECS: list[tuple[str, Any, str]] = [
    ("sampling", {"num_responses": 6}, "power of two, not 6"),
    ("algorithm", {"name": "inpo", "eta": 0.1, "tau": 0.2}, "`tau` (0.2) must not exceed `eta` (0.1)"),
    ("algorithm", {"name": "inpo"}, "inpo needs `eta`"),
    ("algorithm", {"name": "iterative_dpo"}, "needs `beta`"),
    ("algorithm", {"name": "inpo", "schedule": "theorem4"}, "needs `tau` > 0"),
    ("sampling", {"num_response": 8}, "sampling.num_response"),
    ("surprise", 1, "surprise"),
    ("model", {"path": "/nowhere/at/all"}, "neither a directory nor a hub id"),
    ("prompts", {"sets": [{"path": "/nowhere.jsonl"}]}, "is not a file"),
    ("prompts", {"sets": [{"path": "/" + "n" * 300 + ".jsonl"}]}, "is not a file"),
    ("model", {"path": "/" + "m" * 300}, "neither a directory nor a hub id"),
    ("algorithm", {"name": "inpo", "eta": 0.1, "beta": 0.1}, "`beta` is a parameter of iterative_dpo"),
    ("oracle", {"judge": {"kind": "reward_model", "path": "/nowhere"}}, "oracle.judge.path"),
    ("oracle", {"judge": {"kind": "rules", "entry_point": "not an entry point"}}, "module:factory"),
    ("oracle", {"judge": {"kind": "oracle_of_delphi"}}, "oracle.judge"),
    ("training", {"learning_rate": -1}, "training.learning_rate"),
    ("selection", {"method": "random_pairs", "num_pairs": 9}, "need 18 responses, not 4"),
    ("iterations", 0, "iterations"),
    ("evaluation", {"num_prompts": 99}, "evaluation.num_prompts"),
]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    BAD_SPECS,
    ids=[f"{number}-{message}" for number, (_, _, message) in enumerate(BAD_SPECS)],
)
def test_a_bad_spec_is_refused_naming_what_is_wrong(
    app: FastAPI, tmp_path: Path, field: str, value: Any, message: str
) -> None:
    response = ask(app, "POST", "/v1/runs", json=a_spec_body(tmp_path, **{field: value}))
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["errors"]
    assert message in problem["detail"] + json.dumps(problem["errors"])
    assert ask(app, "GET", "/v1/runs").json() == {"runs": [], "next": None}


def _adversarial_bodies() -> Iterator[bytes]:
    with tarfile.open(outside_data("adversarial/JSONTestSuite.tar.gz")) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            if file is not None and member.name.endswith(".json"):
                yield file.read()


def test_no_body_of_the_json_test_suite_is_answered_with_a_500(app: FastAPI) -> None:
    statuses = {
        ask(app, "POST", "/v1/runs", content=body, headers={"content-type": "application/json"}).status_code
        for body in _adversarial_bodies()
    }
    assert statuses <= {400, 413, 422}


def test_naughty_strings_are_refused_or_found_nowhere_in_every_place_of_a_path(app: FastAPI, tmp_path: Path) -> None:
    strings: list[str] = json.loads(outside_data("adversarial/blns.json").read_text())
    for text in strings[::5]:
        name = ask(app, "POST", "/v1/runs", json=a_spec_body(tmp_path, name=text or "?"))
        assert name.status_code in (201, 422), (text, name.text)
        path = f"/v1/runs/{quote(text or '?', safe='')}"
        assert ask(app, "GET", path).status_code in (200, 307, 404, 422), text


def test_what_does_not_exist_is_a_404_problem(app: FastAPI) -> None:
    for path in ("/v1/runs/none", "/v1/runs/none/iterations", "/v1/runs/none/pairs", "/v1/nothing"):
        response = ask(app, "GET", path)
        assert (response.status_code, response.json()["status"]) == (404, 404)


def test_pairs_and_iterations_of_a_fresh_run_are_empty_but_there(app: FastAPI, tmp_path: Path) -> None:
    run = _create(app, a_spec_body(tmp_path))["id"]
    assert ask(app, "GET", f"/v1/runs/{run}/pairs").json() == {
        "iteration": 1,
        "total": 0,
        "offset": 0,
        "pairs": [],
        "problem": None,
    }
    assert ask(app, "GET", f"/v1/runs/{run}/iterations").json()["iterations"] == [
        {"iteration": 0, "commit": None, "evaluation": None, "problem": None}
    ]
    assert ask(app, "GET", "/v1/weights").json() == {"weights": [], "damaged": []}
    assert ask(app, "GET", f"/v1/runs/{run}/pairs?iteration=0").status_code == 422


def test_what_is_left_out_is_counted_shown_in_part_and_paged(app: FastAPI, tmp_path: Path) -> None:
    """250 rows more, all of them duplicates of the 12."""
    body = a_spec_body(tmp_path)
    with (tmp_path / "prompts.jsonl").open("a") as file:
        file.write('{"prompt": "question number 0?"}\n' * 250)
    run = _create(app, body)
    assert (run["num_skipped"], len(run["skipped"])) == (250, 100)
    page = ask(app, "GET", f"/v1/runs/{run['id']}/skipped?offset=240&limit=100").json()
    assert (page["total"], [item["id"] for item in page["skipped"]]) == (
        250,
        [f"prompts.jsonl:{number}" for number in range(253, 263)],
    )
    of_iteration = ask(app, "GET", f"/v1/runs/{run['id']}/skipped?iteration=1").json()
    assert (of_iteration["total"], of_iteration["skipped"]) == (0, [])


def test_the_skipped_rows_of_an_older_releases_run_are_in_its_record(app: FastAPI, tmp_path: Path) -> None:
    run = _create(app, a_spec_body(tmp_path))["id"]
    store = DirectoryStore(tmp_path / "store")
    store.path(layout.skipped(run)).unlink()
    record = json.loads(store.read(layout.run_record(run)))
    del record["num_skipped"]
    record["skipped"] = [{"id": f"p:{number}", "reason": "empty"} for number in range(150)]
    store.path(layout.run_record(run)).write_text(json.dumps(record))
    page = ask(app, "GET", f"/v1/runs/{run}/skipped?offset=149").json()
    assert (page["total"], page["skipped"]) == (150, [{"id": "p:149", "reason": "empty"}])


def test_a_bad_last_event_id_is_the_clients_error(app: FastAPI, tmp_path: Path) -> None:
    run = _create(app, a_spec_body(tmp_path))["id"]
    response = ask(app, "GET", f"/v1/runs/{run}/events", headers={"Last-Event-ID": "not an id"})
    assert response.status_code == 400


def test_a_run_whose_artifacts_are_broken_fails_with_the_reason_and_the_next_one_goes_on(
    app: FastAPI, loop: ReconcileLoop, tmp_path: Path
) -> None:
    first = _create(app, a_spec_body(tmp_path))["id"]
    second = _create(app, a_spec_body(tmp_path))["id"]
    loop.reconcile()
    (tmp_path / "store" / layout.plan(layout.base(first))).write_text("{}")
    loop.reconcile()
    broken = ask(app, "GET", "/v1/runs").json()["runs"][1]
    assert (broken["id"], broken["state"]) == (first, "failed")
    assert f"CorruptArtifactError: {layout.plan(layout.base(first))}" in broken["reason"]
    assert ask(app, "GET", f"/v1/runs/{second}").json()["state"] == "running"


def test_a_run_record_that_cannot_be_read_hides_no_other_run(app: FastAPI, loop: ReconcileLoop, tmp_path: Path) -> None:
    broken = tmp_path / "store" / layout.run_record("broken-run")
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    run = _create(app, a_spec_body(tmp_path))["id"]
    states = {view["id"]: view["state"] for view in ask(app, "GET", "/v1/runs").json()["runs"]}
    assert states == {run: "running", "broken-run": "unreadable"}
    broken_run = ask(app, "GET", "/v1/runs/broken-run").json()
    assert (broken_run["spec"], layout.run_record("broken-run") in broken_run["reason"]) == (None, True)
    assert ask(app, "POST", "/v1/runs/broken-run:cancel").status_code == 409
    assert loop.reconcile() == 1


def test_readiness_names_the_reconcilers_trouble(
    app: FastAPI, loop: ReconcileLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "KEPT_S", 0.0)
    assert ask(app, "GET", "/readyz").status_code == 200
    loop.last_error = "OSError: disk full"
    response = ask(app, "GET", "/readyz")
    assert (response.status_code, "disk full" in response.json()["detail"]) == (503, True)


def test_runs_are_listed_a_page_at_a_time(app: FastAPI, tmp_path: Path) -> None:
    created = [_create(app, a_spec_body(tmp_path, name=f"r{number}"))["id"] for number in range(3)]
    newest_first = sorted(created, key=lambda run: ask(app, "GET", f"/v1/runs/{run}").json()["created_at"])[::-1]
    first = ask(app, "GET", "/v1/runs?limit=2").json()
    second = ask(app, "GET", f"/v1/runs?limit=2&before={first['next']}").json()
    assert [view["id"] for view in first["runs"] + second["runs"]] == newest_first
    assert (len(first["runs"]), second["next"]) == (2, None)
    refused = ask(app, "GET", "/v1/runs?before=nobody")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "before")
    assert [ask(app, "GET", f"/v1/runs?limit={limit}").status_code for limit in (0, 501)] == [422, 422]


@pytest.fixture
def committed(app: FastAPI, tmp_path: Path) -> str:
    """A run with two committed iterations, of which the second left something out."""
    run = _create(app, a_spec_body(tmp_path))["id"]
    store = DirectoryStore(tmp_path / "store")
    for number in (1, 2):
        version = WeightVersion(run=run, number=number, digest="d", directory=f"runs/{run}/weights/{number}")
        step = layout.half_step(run, number, 1)
        left_out = [Skipped(id="p1", reason="over-long: 90 tokens, limit 64")] if number == 2 else []
        create_model(store, layout.published(step), PublishedWeights(version=version, skipped=left_out))
        proof = Commit(
            iteration=number,
            weights=version,
            num_pairs=1,
            digests={layout.published(step): "5f"},
            metrics={},
            dropped={"over-long": 1} if left_out else {},
        )
        create_model(store, layout.commit(run, number), proof)
    return run


def test_iterations_come_a_page_at_a_time_with_what_they_left_out(app: FastAPI, committed: str) -> None:
    """Row 0 and two iterations: pages of two rows and of one."""
    path = f"/v1/runs/{committed}/iterations?limit=2"
    first, second = ask(app, "GET", path).json(), ask(app, "GET", f"{path}&offset=2").json()
    assert [row["iteration"] for row in first["iterations"] + second["iterations"]] == [0, 1, 2]
    assert (first["next"], second["next"]) == (2, None)
    assert (first["skipped"], [item["id"] for item in second["skipped"]]) == ([], ["p1"])
    assert ask(app, "GET", f"{path}&offset=3").json() == {"iterations": [], "skipped": [], "next": None}


def test_digests_are_carried_only_when_they_are_asked_for(app: FastAPI, committed: str) -> None:
    path = f"/v1/runs/{committed}/iterations"
    proven = {layout.published(layout.half_step(committed, 1, 1)): "5f"}
    for query, digests in (("", {}), ("?digests=true", proven), ("?digests=false", {})):
        assert ask(app, "GET", f"{path}{query}").json()["iterations"][1]["commit"]["digests"] == digests


def test_a_committed_iteration_whose_artifacts_are_gone_is_a_row_that_says_so(
    app: FastAPI, committed: str, tmp_path: Path
) -> None:
    gone = layout.published(layout.half_step(committed, 2, 1))
    (tmp_path / "store" / gone).unlink()
    (tmp_path / "store" / layout.commit(committed, 1)).write_text("{")
    _, broken, bare = ask(app, "GET", f"/v1/runs/{committed}/iterations").json()["iterations"]
    assert broken["commit"] is None
    assert layout.commit(committed, 1) in broken["problem"]
    assert (bare["commit"]["num_pairs"], bare["problem"]) == (1, f"{gone} is gone")
