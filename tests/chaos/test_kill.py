"""Kill anything at a random moment: every run ends by itself, in the undisturbed run's pairs, byte for byte.

Real processes, real Redis, a 3 s lease; engine and trainer are stubs whose outputs are pure functions of their inputs.
"""

import os
import random
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import redis

from services.cli.launcher.up import RunningSystem, running_system
from shared.contracts.records import Rollout
from shared.store.artifacts.tables import decode
from tests.support.stub_system import create_run, ended_run, stub_system
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(600), pytest.mark.xdist_group("kill")]

LEASE_S = 3.0
NUM_RUNS = 20
SERVICES = ("controller", "policy", "oracle", "trainer")
NUM_ARTIFACTS = 3 * (4 * 3 + 2)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningSystem]:
    with running_system(tmp_path_factory.mktemp("chaos"), stub_system(LEASE_S)) as running:
        yield running


@pytest.fixture(scope="module")
def calm_pairs(system: RunningSystem, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Pairs of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    run = create_run(system, folder)
    _succeed(system, run)
    return _pairs(system, run)


@pytest.mark.parametrize("number", range(NUM_RUNS))
def test_a_kill_at_a_random_moment_changes_nothing(
    system: RunningSystem, calm_pairs: dict[str, bytes], tmp_path: Path, number: int
) -> None:
    """Victims in turn: each service, Redis, everything at once, and all of Redis' memory."""
    rng = random.Random(number)
    disasters = (*SERVICES, "redis", "everything", "memory")
    disaster = disasters[number % len(disasters)]
    run = create_run(system, tmp_path)
    moment = rng.randrange(NUM_ARTIFACTS)
    wait_until(lambda: _num_artifacts(system, run) >= moment, 120.0, f"{moment} artifacts of {run}")
    _strike(system, disaster)
    _succeed(system, run)
    pairs = _pairs(system, run)
    assert len(pairs) == 3 * 4
    assert pairs == calm_pairs, f"run {run} after the loss of {disaster} at artifact {moment}"


HALF_STEPS = {
    "egpo": {"name": "egpo", "eta": 0.6, "tau": 0.1},
    "onpo": {"name": "onpo", "eta": 0.6, "tau": 0.1},
    "mnpo": {"name": "mnpo", "eta": 0.6, "opponents": "mixture"},
}


@pytest.mark.parametrize("algorithm", HALF_STEPS)
def test_kills_between_half_steps_and_versions_change_nothing(
    system: RunningSystem, tmp_path: Path, algorithm: str
) -> None:
    """Each service is killed once, spread over two iterations, in a run that otherwise equals an undisturbed one."""
    method = HALF_STEPS[algorithm]
    calm = create_run(system, tmp_path, algorithm=method, iterations=2)
    _succeed(system, calm)
    num_artifacts = _num_artifacts(system, calm)
    run = create_run(system, tmp_path, algorithm=method, iterations=2)
    for number, victim in enumerate(SERVICES, start=1):
        moment = num_artifacts * number // (len(SERVICES) + 2)
        wait_until(lambda moment=moment: _num_artifacts(system, run) >= moment, 120.0, f"{moment} artifacts of {run}")
        _strike(system, victim)
    _succeed(system, run)
    assert _pairs(system, run) == _pairs(system, calm)
    samplers = {
        version
        for path in (system.store_dir / "runs" / run / "iterations" / "0002").rglob("rollouts/*.parquet")
        for rollout in decode(Rollout, path.read_bytes())
        for version in rollout.versions
    }
    # The number of what half-step 1 of iteration 2 made is 2, too.
    assert samplers == {"egpo": {1, 2}, "onpo": {1}, "mnpo": {0, 1}}[algorithm]


def _num_artifacts(system: RunningSystem, run: str) -> int:
    folder = system.store_dir / "runs" / run / "iterations"
    return sum(1 for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _strike(system: RunningSystem, disaster: str) -> None:
    if disaster == "memory":
        redis.Redis.from_url(system.redis_url).flushall()  # pyright: ignore[reportUnknownMemberType]
        return
    names = ("redis", *SERVICES) if disaster == "everything" else (disaster,)
    kills: list[Callable[[], None]] = [
        lambda pid=system.processes[name]: os.kill(pid, signal.SIGKILL) for name in names if name in system.processes
    ]
    for kill in kills:
        kill()


def _succeed(system: RunningSystem, run: str) -> None:
    view = ended_run(system, run)
    assert view["state"] == "succeeded", view["reason"]


def _pairs(system: RunningSystem, run: str) -> dict[str, bytes]:
    folder = system.store_dir / "runs" / run
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("pairs/*.parquet")}
