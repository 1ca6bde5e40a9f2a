"""Judges in processes of their own decide a run; each dies in the middle, stays away for 20 s, and comes back."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.cli.launcher.redis_server import free_port
from services.cli.launcher.up import RunningSystem, running_system
from shared.contracts.records import Rollout, Verdict
from shared.store.artifacts.identity import namespace_of
from shared.store.artifacts.store import DirectoryStore
from shared.store.artifacts.tables import read_table
from shared.store.queue.redis_queue import RedisQueue
from tests.support.data import ROOT
from tests.support.stub_system import create_run, ended_run, stub_system
from tests.support.waiting import wait_until

OUTAGE_S = 20.0
DIE_AFTER = 30

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("external_judges")]


@contextmanager
def judge_process(module: str, *arguments: object) -> Generator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", f"tests.support.{module}", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def asked_again_after_its_answer(log: Path) -> list[str]:
    """Comparisons that the judge was asked once more although it had answered them."""
    answered: set[str] = set()
    again: list[str] = []
    for line in log.read_text().splitlines():
        word, identity = line.split()
        if word == "asked" and identity in answered:
            again.append(identity)
        if word == "answered":
            answered.add(identity)
    return again


def waiting_for(system: RunningSystem, run: str) -> str:
    view = httpx.get(f"{system.url}/v1/runs/{run}", trust_env=False).json()
    return view["progress"]["waiting"] or ""


def check_labels(store: DirectoryStore, run: str) -> int:
    """Every stored verdict is what the judge says of these two lengths; how many there are.

    Positions do not matter to it, so both orders agree: .9 for the shorter, .5 for equals.
    """
    num = 0
    for step in sorted(store.root.glob(f"runs/{run}/iterations/*/half-1")):
        key = step.relative_to(store.root).as_posix()
        for file in sorted(step.glob("judgments/*.parquet")):
            rollouts = {row.prompt_id: row for row in read_table(store, f"{key}/rollouts/{file.name}", Rollout)}
            for verdict in read_table(store, f"{key}/judgments/{file.name}", Verdict):
                responses = rollouts[verdict.prompt_id].responses
                difference = len(responses[verdict.a]) - len(responses[verdict.b])
                expected = 0.5 if difference == 0 else 0.9 if difference < 0 else 0.1
                assert verdict.probability == pytest.approx(expected)
                assert verdict.status == ("tie" if difference == 0 else "ok")
                num += 1
    return num


def check_history(system: RunningSystem, run: str) -> None:
    """The outage was waited for, and no item was counted as tried or failed."""
    namespace = namespace_of(DirectoryStore(system.store_dir), None)
    queue = RedisQueue(system.redis_url, consumer="test", lease_s=30.0, namespace=namespace)
    events = [event for _, event in queue.events("0", wait_s=0.0) if event.run == run]
    kinds = Counter(event.type for event in events)
    assert kinds["item_retried"] == kinds["item_dead"] == 0
    deferred = [event.data for event in events if event.type == "item_deferred"]
    assert deferred
    assert not any(data["counted"] for data in deferred)


def survives(system: RunningSystem, tmp_path: Path, oracle: dict[str, Any], module: str, first_argument: object) -> str:
    log = tmp_path / "asked.log"
    with judge_process(module, first_argument, log, DIE_AFTER) as judge:
        run = create_run(system, tmp_path, oracle=oracle)
        assert judge.wait(timeout=120) < 0, "the judge killed itself in the middle of the run"
    assert httpx.get(f"{system.url}/v1/runs/{run}", trust_env=False).json()["state"] == "running"
    wait_until(lambda: "waiting for the judge" in waiting_for(system, run), OUTAGE_S, "the run to say that it waits")
    with pytest.raises(AssertionError, match="in vain"):
        wait_until(lambda: not waiting_for(system, run), OUTAGE_S, "work to go on without a judge")
    with judge_process(module, first_argument, log):
        view = ended_run(system, run, timeout_s=150)
    assert view["state"] == "succeeded", view
    assert asked_again_after_its_answer(log) == []
    check_history(system, run)
    assert check_labels(DirectoryStore(system.store_dir), run) == 60, "3 iterations, 4 prompts, 5 comparisons each"
    return run


def test_a_pushed_judge_that_dies_for_20_s_costs_no_attempt_no_label_and_no_second_asking(tmp_path: Path) -> None:
    port = free_port()
    oracle = {"judge": {"kind": "http", "url": f"http://127.0.0.1:{port}/v1/judgments", "max_batch": 4}}
    allowed = json.dumps([f"http://127.0.0.1:{port}"])
    options = stub_system(5.0, INPO_ORACLE_RETRY_PAUSE_S="0.3", INPO_ORACLE_HTTP_JUDGES=allowed)
    with running_system(tmp_path / "state", options) as system:
        survives(system, tmp_path, oracle, "logged_push_judge", port)


def test_a_pulling_judge_that_dies_for_20_s_costs_no_attempt_no_label_and_no_second_asking(tmp_path: Path) -> None:
    oracle = {"judge": {"kind": "pull", "name": "shorter"}}
    with running_system(tmp_path / "state", stub_system(5.0, INPO_ORACLE_RETRY_PAUSE_S="0.3")) as system:
        survives(system, tmp_path, oracle, "logged_pull_judge", system.oracle_url)
