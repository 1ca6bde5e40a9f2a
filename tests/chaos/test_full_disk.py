"""A disk that is full, read-only or failing for a while: every run says so, and ends in the undisturbed run's pairs.

Real processes, real Redis, stubs for engine and trainer; the faults come from a preloaded library. Of the writes of an
iteration a sample is refused in turn; INPO_TEST_EVERY_WRITE=1 refuses each of them.
"""

import errno
import os
import time
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from services.cli.launcher.up import RunningSystem, running_system
from tests.support.faulty_storage import FaultyStorage
from tests.support.stub_system import create_run, ended_run, run_body, stub_system
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(3600), pytest.mark.xdist_group("full-disk")]

LEASE_S = 3.0
TOLD_WITHIN_S = 40.0  # ten are promised; a machine that is busy with other tests may take longer
FAULT_S = 12.0


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> FaultyStorage:
    return FaultyStorage(tmp_path_factory.mktemp("faulty"))


@pytest.fixture(scope="module")
def system(faulty: FaultyStorage, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningSystem]:
    options = stub_system(LEASE_S, **faulty.environment)
    with running_system(tmp_path_factory.mktemp("full-disk"), options) as running:
        yield running


@pytest.fixture(autouse=True)
def healed(faulty: FaultyStorage) -> Generator[None]:
    yield
    faulty.heal()


@pytest.fixture(scope="module")
def calm_pairs(system: RunningSystem, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Pairs of a run that nobody disturbed."""
    run = create_run(system, tmp_path_factory.mktemp("calm"))
    return pairs_of_success(system, run)


@pytest.fixture(scope="module")
def calm_iteration(
    system: RunningSystem, faulty: FaultyStorage, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], int]:
    """Pairs of an undisturbed run of one iteration, and how many calls wrote it."""
    faulty.fail(system.store_dir, 0)
    run = create_run(system, tmp_path_factory.mktemp("calm-iteration"), iterations=1)
    pairs = pairs_of_success(system, run)
    return pairs, faulty.calls()


def pairs_of_success(system: RunningSystem, run: str) -> dict[str, bytes]:
    """All pairs of the run, which succeeds, without a single try that was counted to its end."""
    view = ended_run(system, run, 180.0)
    assert view["state"] == "succeeded", view["reason"]
    folder = system.store_dir / "runs" / run
    assert not list(folder.rglob("dead/*.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("pairs/*.parquet")}


def get(system: RunningSystem, path: str) -> httpx.Response:
    return httpx.get(f"{system.url}{path}", trust_env=False, timeout=10.0)


def told(system: RunningSystem, run: str) -> str:
    """Everything that says why a run does not go on; looking at it never fails."""
    view, readiness = get(system, f"/v1/runs/{run}"), get(system, "/readyz")
    assert view.status_code == 200, view.text
    assert readiness.status_code in (200, 503), readiness.text
    return f"{view.json()['progress']['waiting']} {readiness.text}"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (errno.ENOSPC, 507, "the storage is full"),
        (errno.EROFS, 503, "the storage is read-only"),
        (errno.EIO, 503, "the storage is failing"),
    ],
    ids=["full", "read-only", "failing"],
)
@pytest.mark.parametrize("also_logs", [False, True], ids=["store", "store and logs"])
def test_a_store_that_refuses_for_a_while_is_said_and_changes_nothing(
    system: RunningSystem,
    faulty: FaultyStorage,
    calm_pairs: dict[str, bytes],
    tmp_path: Path,
    error: int,
    status: int,
    reason: str,
    also_logs: bool,
) -> None:
    run = create_run(system, tmp_path)
    wait_until(lambda: num_artifacts(system, run) >= 5, 60.0, "the run to be under way")
    began = time.monotonic()
    if also_logs:
        faulty.fail(system.logs, error, rule=1)
    faulty.fail(system.store_dir, error)
    wait_until(lambda: reason in told(system, run), TOLD_WITHIN_S, f"somebody to say: {reason}")
    refused = httpx.post(f"{system.url}/v1/runs", json=run_body(tmp_path), trust_env=False)
    assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
    wait_until(lambda: time.monotonic() - began > FAULT_S, FAULT_S + 1, "the fault's end")
    faulty.heal()
    assert pairs_of_success(system, run) == calm_pairs
    wait_until(lambda: get(system, "/readyz").status_code == 200, 10.0, "readiness")


def test_a_full_log_disk_holds_nothing_up_and_the_log_says_what_it_lost(
    system: RunningSystem, faulty: FaultyStorage, calm_pairs: dict[str, bytes], tmp_path: Path
) -> None:
    before = system.processes
    with faulty.failing(system.logs, errno.ENOSPC):
        run = create_run(system, tmp_path)
        assert pairs_of_success(system, run) == calm_pairs
        assert get(system, "/readyz").status_code == 200
    assert system.processes == before
    pairs_of_success(system, create_run(system, tmp_path))
    for name in ("controller", "policy", "oracle"):
        text = (system.logs / f"{name}.log").read_text()
        assert '"event": "log_lines_lost"' in text, name


SAMPLES = 6


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_any_write_of_an_iteration_may_be_refused(
    system: RunningSystem,
    faulty: FaultyStorage,
    calm_iteration: tuple[dict[str, bytes], int],
    tmp_path: Path,
    error: int,
) -> None:
    """Once, or three times in a row: the number of the call decides."""
    pairs, num_calls = calm_iteration
    every = os.environ.get("INPO_TEST_EVERY_WRITE") == "1"
    # The two errors' samples lie between each other.
    first = 0 if every or error == errno.ENOSPC else num_calls // (2 * SAMPLES)
    for number in range(first, num_calls, 1 if every else num_calls // SAMPLES):
        faulty.fail(system.store_dir, error, after=number, times=1 if number % 2 else 3)
        run = create_run(system, tmp_path, iterations=1)
        assert pairs_of_success(system, run) == pairs, f"call {number} of {num_calls} was refused"
        assert faulty.calls() > number, "the call was never made"


def num_artifacts(system: RunningSystem, run: str) -> int:
    folder = system.store_dir / "runs" / run / "iterations"
    return sum(1 for path in folder.rglob("*.parquet") if not path.name.startswith("."))
