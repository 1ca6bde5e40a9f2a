# redis-py leaves some parameters of its commands without a type.
# pyright: reportUnknownMemberType=false
"""Whatever Redis refuses with in the middle of a run: it says why it waits, goes on by itself, and nothing differs.

What a server can be made to refuse with is done to the real one; the rest comes from a proxy before it.
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import redis

from services.cli.launcher.up import RunningSystem, UpOptions, running_system
from shared.store.artifacts.identity import namespace_of
from shared.store.artifacts.store import DirectoryStore
from shared.store.queue.redis_queue import KINDS
from tests.support.redis_server import RedisServer
from tests.support.refusing_redis import REFUSALS, RefusingRedis, refusing_redis
from tests.support.stub_system import ENVIRONMENT, create_run, ended_run
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(300), pytest.mark.xdist_group("refusals")]

# Ten seconds are promised; a machine that is busy with other tests may take longer.
SOON_S = 40
ITERATIONS = 6
NUM_ARTIFACTS = ITERATIONS * (4 * 3 + 2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[RedisServer]:
    """A server of its own: it is told to refuse."""
    own = RedisServer(tmp_path_factory.mktemp("refusing"))
    own.start()
    yield own
    own.kill()


@pytest.fixture(scope="module")
def proxy(server: RedisServer) -> Generator[RefusingRedis]:
    with refusing_redis(server.port) as found:
        yield found


@pytest.fixture(scope="module")
def system(proxy: RefusingRedis, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningSystem]:
    options = UpOptions(redis_url=proxy.url, lease_s=3.0, env=ENVIRONMENT)
    with running_system(tmp_path_factory.mktemp("system"), options) as running:
        yield running


def test_a_run_waits_out_every_refusal_says_why_and_ends_in_the_same_pairs(
    server: RedisServer, proxy: RefusingRedis, system: RunningSystem, tmp_path: Path
) -> None:
    calm = create_run(system, tmp_path, iterations=ITERATIONS)
    assert ended_run(system, calm)["state"] == "succeeded"
    processes = dict(system.processes)
    run = create_run(system, tmp_path, iterations=ITERATIONS)
    refusals = _by_the_server(server.client()) | {
        word: partial(proxy.refusing, REFUSALS[word])
        for word in ("LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "max number of clients")
    }
    for number, (word, refusing) in enumerate(refusals.items()):
        # In the first half: the run must still be under way when the last one is told.
        moment = NUM_ARTIFACTS * number // (2 * len(refusals))
        wait_until(lambda moment=moment: _num_artifacts(system, run) >= moment, 60, f"{moment} artifacts of {run}")
        with refusing():
            wait_until(lambda word=word: word in _readiness(system), SOON_S, f"/readyz to name {word}")
            wait_until(lambda word=word: word in _waiting(system, run), SOON_S, f"the run to name {word}")
        wait_until(lambda: _readiness(system) == "", SOON_S, f"the controller to be ready after {word}")
        _destroy_groups(server.client(), system)
    view = ended_run(system, run)
    assert view["state"] == "succeeded", view["reason"]
    assert _pairs(system, run) == _pairs(system, calm)
    assert not [*system.store_dir.rglob("dead/*")], "no refusal is the fault of any work"
    assert dict(system.processes) == processes, "no service ended"


Refusing = Callable[[], AbstractContextManager[None]]


def _by_the_server(client: redis.Redis) -> dict[str, Refusing]:
    return {
        "NOREPLICAS": partial(_configured, client, "min-replicas-to-write", 1, 0),
        "OOM": partial(_configured, client, "maxmemory", 1, 0),
        "READONLY": partial(_replica, client),
    }


@contextmanager
def _configured(client: redis.Redis, name: str, refusing: int, accepting: int) -> Generator[None]:
    client.config_set(name, refusing)
    try:
        yield
    finally:
        client.config_set(name, accepting)


@contextmanager
def _replica(client: redis.Redis) -> Generator[None]:
    """Of a server that is not there: it keeps what it has, and takes no writes."""
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")


def _destroy_groups(client: redis.Redis, system: RunningSystem) -> None:
    """NOGROUP, for whoever asks next: nothing waits for it, because whoever meets it makes the group again."""
    namespace = namespace_of(DirectoryStore(system.store_dir), None)
    for kind in KINDS:
        if client.exists(f"{namespace}:{kind}:stream"):
            client.xgroup_destroy(f"{namespace}:{kind}:stream", "workers")


def _readiness(system: RunningSystem) -> str:
    """What the controller lacks; nothing when it is ready."""
    answer = httpx.get(f"{system.url}/readyz", timeout=15.0, trust_env=False)
    return "" if answer.status_code == 200 else str(answer.json()["detail"])


def _waiting(system: RunningSystem, run: str) -> str:
    view = httpx.get(f"{system.url}/v1/runs/{run}", timeout=15.0, trust_env=False).json()
    assert view["state"] == "running", view
    return str(view["progress"]["waiting"])


def _num_artifacts(system: RunningSystem, run: str) -> int:
    folder = system.store_dir / "runs" / run / "iterations"
    return sum(1 for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _pairs(system: RunningSystem, run: str) -> dict[str, bytes]:
    folder = system.store_dir / "runs" / run
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("pairs/*.parquet")}
