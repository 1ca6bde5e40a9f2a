"""The three APIs keep what their descriptions promise, whatever is sent to them, with and without keys."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from services.controller.api.app import controller_app
from services.controller.loop import ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from services.oracle.api.app import oracle_app
from services.oracle.comparisons.board import ComparisonBoard
from services.oracle.judge import build_judge
from services.oracle.judges.registry import JudgeRegistry
from services.oracle.settings import OracleSettings
from services.policy.api.app import policy_app
from services.policy.building import build_parts
from services.policy.settings import PolicySettings
from shared.contracts.records import Message
from shared.contracts.rest.judging import OpenComparison
from shared.runtime.key_files import write_private
from shared.store.artifacts import layout, promotions
from shared.store.artifacts.store import DirectoryStore, create_model
from shared.store.board.memory_board import MemoryBoard
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.contract import Fuzzing, fuzz
from tests.support.published import a_stored_run, commit_weights, weights_without_a_model
from tests.support.served import served

# As many for each operation, service and way to ask: INPO_FUZZ_CASES=400 is about 24,000 requests.
FUZZ_CASES = int(os.environ.get("INPO_FUZZ_CASES", "20"))
KEYS = "everything\nread looks\njudge judges\n"
Known = dict[str, str]


def a_controller(folder: Path, **settings: Any) -> tuple[FastAPI, Known]:
    """With a run whose base is imported: weight version 0."""
    store = DirectoryStore(folder / "store")
    run = a_stored_run(store, folder)
    commit_weights(store, weights_without_a_model(store, run, 0))
    queue = MemoryQueue(lambda: 0.0, lease_s=30.0)
    loop = ReconcileLoop(RunRepository(store), queue)
    app = controller_app(ControllerSettings(**settings), store, queue, queue, loop)
    return app, {"run_id": run, "version": f"{run}@0"}


def an_oracle(folder: Path, **settings: Any) -> tuple[FastAPI, Known]:
    """That may import the tests' rules, and has one comparison open for a judge that fetches its questions."""
    allowed = ("tests.support.",)
    pool = JudgeRegistry(partial(build_judge, entry_points=list(allowed)))
    store, board = DirectoryStore(folder / "store"), MemoryBoard(lambda: 0.0)
    identity = "5f" * 32
    asked = OpenComparison(
        id=identity,
        judge="anna",
        judge_revision="1",
        prompt=[Message(role="user", content="which?")],
        first="a",
        second="b",
    )
    create_model(store, layout.comparison(identity), asked)
    board.put("anna@1", [identity])
    chosen = OracleSettings(oracle_entry_points=allowed, store_dir=folder, **settings)
    return oracle_app(chosen, pool, ComparisonBoard(store, board)), {"comparison_id": identity}


def a_policy(folder: Path, **settings: Any) -> tuple[FastAPI, Known]:
    """With a promoted version and an engine without a model."""
    store = DirectoryStore(folder / "store")
    promotions.promote(store, weights_without_a_model(store, "run", 1), by="test")
    fake = "tests.support.fake_engine"
    chosen = PolicySettings(
        engine=f"{fake}:FakeEngine", tokenizer=f"{fake}:FakeTokenizer", completion_max_tokens=64, **settings
    )
    return policy_app(chosen, build_parts(chosen, store).completions), {}


SERVICES: dict[str, Callable[..., tuple[FastAPI, Known]]] = {
    "controller": a_controller,
    "oracle": an_oracle,
    "policy": a_policy,
}


@pytest.mark.timeout(240 if FUZZ_CASES <= 20 else 7200)
@pytest.mark.parametrize("service", SERVICES)
def test_without_keys_every_answer_is_one_that_the_description_promises(service: str, tmp_path: Path) -> None:
    app, known = SERVICES[service](tmp_path)
    with served(app) as url:
        seen = fuzz(url, {}, Fuzzing(num_cases=FUZZ_CASES, known=known, never_known=frozenset({EVENTS})))
    assert all(statuses & {200, 201, 400, 404, 409, 422} for statuses in seen.values()), seen
    assert not any(401 in statuses for statuses in seen.values()), seen


@pytest.mark.timeout(240 if FUZZ_CASES <= 20 else 7200)
@pytest.mark.parametrize("service", SERVICES)
def test_with_keys_every_answer_is_promised_and_no_route_forgets_its_key(service: str, tmp_path: Path) -> None:
    """Requests carry a key of all scopes, one of one scope, a wrong one or none: each route is refused with 401."""
    keys = tmp_path / "keys"
    write_private(keys, KEYS)
    app, known = SERVICES[service](tmp_path, api_key_file=keys)
    headers = [{"Authorization": f"Bearer {key}"} for key in ("everything", "everything", "looks", "judges", "wrong")]
    with served(app) as url:
        seen = fuzz(
            url,
            headers[0],
            Fuzzing(num_cases=FUZZ_CASES, headers=[*headers, {}], known=known, never_known=frozenset({EVENTS})),
        )
    for operation, statuses in seen.items():
        assert (401 in statuses) == (not operation.endswith(("/healthz", "/readyz"))), (operation, statuses)


EVENTS = "GET /v1/runs/{run_id}/events"  # an answer without an end
