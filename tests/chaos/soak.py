"""`make soak`: the stub engine under random faults of every kind, for as long as asked; every run must end by itself.

Real processes, real Redis. One run follows the other; meanwhile, one fault at a time: a process is killed or stopped,
Redis is killed or refuses, storage refuses in the store, in the logs or in both, clients are rude. A run that does not
succeed, pairs that differ from the undisturbed run's, given-up work and memory that grows end it with an error. A seed
gives the same faults in the same order, not at the same instants.
"""

import argparse
import errno
import random
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from services.cli.launcher.up import RunningSystem, UpOptions, running_system
from tests.support.faulty_storage import FaultyStorage
from tests.support.processes import send_signal
from tests.support.redis_server import RedisServer
from tests.support.refusing_redis import REFUSALS, RefusingRedis, refusing_redis
from tests.support.stub_system import ENVIRONMENT, create_run, ended_run

LEASE_S = 3.0
RUN_S = 300.0
MAX_GROWTH = 1.5
GROWTH_ALLOWED_BYTES = 64 * 2**20
SERVICES = ("controller", "policy", "oracle", "trainer")


class SoakError(AssertionError):
    """A promise that was broken; the message says by which run or process."""


@dataclass(slots=True)
class Outcome:
    """What happened."""

    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    slowest_run_s: float = 0.0
    first_bytes: dict[str, int] = field(default_factory=dict[str, int])
    last_bytes: dict[str, int] = field(default_factory=dict[str, int])
    leftovers: int = 0


@dataclass(frozen=True, slots=True)
class Soak:
    """A system, and what can be done to it."""

    system: RunningSystem
    redis: RedisServer
    proxy: RefusingRedis
    storage: FaultyStorage
    chance: random.Random

    def one_fault(self, ended: threading.Event) -> str:
        """Some fault, over when this returns, which is soon when `ended` is set; its name."""
        faults: dict[str, Callable[[threading.Event], None]] = {
            "process killed": self._kill,
            "process stopped": self._stop,
            "Redis killed": self._kill_redis,
            "Redis refuses": self._refuse,
            "storage refuses": self._storage,
            "one write fails": self._one_write,
            "idle connections": self._idle,
            "junk requests": self._junk,
        }
        name = self.chance.choice(list(faults))
        faults[name](ended)
        return name

    def _pid(self) -> int | None:
        return self.system.processes.get(self.chance.choice(SERVICES))

    def _kill(self, ended: threading.Event) -> None:
        del ended
        send_signal(self._pid(), signal.SIGKILL)

    def _stop(self, ended: threading.Event) -> None:
        """For longer than a lease: somebody else may have the work when it goes on."""
        pid = self._pid()
        send_signal(pid, signal.SIGSTOP)
        ended.wait(LEASE_S + self.chance.uniform(0.0, 4.0))
        send_signal(pid, signal.SIGCONT)

    def _kill_redis(self, ended: threading.Event) -> None:
        self.redis.kill()
        ended.wait(self.chance.uniform(0.0, 4.0))
        self.redis.start()

    def _refuse(self, ended: threading.Event) -> None:
        with self.proxy.refusing(self.chance.choice(list(REFUSALS.values()))):
            ended.wait(self.chance.uniform(1.0, 6.0))

    def _storage(self, ended: threading.Event) -> None:
        error = self.chance.choice([errno.ENOSPC, errno.EIO, errno.EROFS])
        folders = self.chance.choice(
            [[self.system.store_dir], [self.system.logs], [self.system.store_dir, self.system.logs]]
        )
        with ExitStack() as stack:
            for rule, folder in enumerate(folders):
                stack.enter_context(self.storage.failing(folder, error, rule=rule))
            ended.wait(self.chance.uniform(1.0, 8.0))

    def _one_write(self, ended: threading.Event) -> None:
        error = self.chance.choice([errno.ENOSPC, errno.EIO])
        self.storage.fail(self.system.store_dir, error, after=self.chance.randrange(40), times=1)
        ended.wait(self.chance.uniform(1.0, 6.0))
        self.storage.heal()

    def _idle(self, ended: threading.Event) -> None:
        address = ("127.0.0.1", int(self.system.url.rpartition(":")[2]))
        with ExitStack() as stack:
            for _ in range(200):
                try:
                    stack.enter_context(socket.create_connection(address, timeout=1.0))
                except OSError:
                    break
            ended.wait(self.chance.uniform(1.0, 4.0))

    def _junk(self, ended: threading.Event) -> None:
        """Nothing of it is a 5xx, but for a service that is not there or waits for its storage."""
        requests = [
            ("POST", "/v1/runs", b"{"),
            ("POST", "/v1/runs", b'{"name": "\\ud800"}'),
            ("POST", "/healthz", b"x" * 2**20),
            ("BREW", "/v1/runs", b""),
            ("GET", "/v1/runs/" + "%ff" * 200, b""),
        ]
        for method, path, body in self.chance.sample(requests, len(requests)):
            if ended.is_set():
                return
            try:
                answer = httpx.request(
                    method,
                    f"{self.system.url}{path}",
                    content=body,
                    trust_env=False,
                    timeout=30.0,
                    headers={"Content-Type": "application/json"},
                )
            except httpx.TransportError:
                continue
            if answer.status_code >= 500 and answer.status_code not in (503, 507):
                raise SoakError(f"{method} {path} was answered {answer.status_code}: {answer.text}")


def soak(folder: Path, seconds: float, seed: int, console: Console) -> Outcome:
    """Runs under faults for so many seconds; `SoakError` names the promise that was broken."""
    outcome = Outcome()
    with _under_test(folder, seed) as under_test:
        calm = _pairs(under_test.system, _one_run(under_test, folder, outcome))
        outcome.first_bytes = _resident_bytes(under_test.system)
        began_s = time.monotonic()
        while time.monotonic() - began_s < seconds:
            run = _disturbed_run(under_test, folder, outcome)
            if _pairs(under_test.system, run) != calm:
                raise SoakError(f"the pairs of {run} are not the undisturbed run's")
            passed_s = time.monotonic() - began_s
            console.print(f"{passed_s:6.0f} s · {outcome.runs} runs · {outcome.faults.total()} faults", highlight=False)
        _one_run(under_test, folder, outcome)
        outcome.last_bytes = _resident_bytes(under_test.system)
        outcome.leftovers = sum(1 for path in under_test.system.store_dir.rglob(".*") if path.is_file())
    for name, first in outcome.first_bytes.items():
        last = outcome.last_bytes.get(name, first)
        if last > first * MAX_GROWTH + GROWTH_ALLOWED_BYTES:
            raise SoakError(f"{name} grew from {first >> 20} to {last >> 20} MiB")
    return outcome


@contextmanager
def _under_test(folder: Path, seed: int) -> Generator[Soak]:
    storage = FaultyStorage(folder)
    redis = RedisServer(folder / "redis")
    redis.start()
    try:
        with refusing_redis(redis.port) as proxy:
            options = UpOptions(redis_url=proxy.url, lease_s=LEASE_S, env=ENVIRONMENT | storage.environment)
            with running_system(folder / "system", options) as system:
                yield Soak(system, redis, proxy, storage, random.Random(seed))
    finally:
        redis.kill()


def _disturbed_run(under_test: Soak, folder: Path, outcome: Outcome) -> str:
    """A run, and faults one after the other until it has ended."""
    ended, broken = threading.Event(), list[Exception]()

    def disturb() -> None:
        try:
            while not ended.is_set():
                outcome.faults[under_test.one_fault(ended)] += 1
                ended.wait(under_test.chance.uniform(0.5, 3.0))
        except Exception as error:  # noqa: BLE001  (told by the main thread, once the run has ended)
            broken.append(error)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        run = _one_run(under_test, folder, outcome)
    finally:
        ended.set()
        disturber.join()
        under_test.storage.heal()
    if broken:
        raise broken[0]
    return run


def _one_run(under_test: Soak, folder: Path, outcome: Outcome) -> str:
    began_s = time.monotonic()
    run = create_run(under_test.system, folder)
    view = ended_run(under_test.system, run, RUN_S)
    if view["state"] != "succeeded":
        raise SoakError(f"{run} has {view['state']}: {view['reason']}")
    outcome.runs += 1
    outcome.slowest_run_s = max(outcome.slowest_run_s, time.monotonic() - began_s)
    return run


def _pairs(system: RunningSystem, run: str) -> dict[str, bytes]:
    folder = system.store_dir / "runs" / run
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("pairs/*.parquet")}


def _resident_bytes(system: RunningSystem) -> dict[str, int]:
    """Memory of each service that runs now."""
    return {
        name: next(
            int(line.split()[1]) * 1024
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmRSS")
        )
        for name, pid in system.processes.items()
        if name in SERVICES
    }


def table(outcome: Outcome) -> Table:
    """For the terminal."""
    shown = Table(
        title=f"{outcome.runs} runs, all succeeded with the same pairs; slowest {outcome.slowest_run_s:.0f} s"
    )
    shown.add_column("fault")
    shown.add_column("times", justify="right")
    for name, times in sorted(outcome.faults.items()):
        shown.add_row(name, str(times))
    for name, first in outcome.first_bytes.items():
        shown.add_row(f"memory of the {name}", f"{first >> 20} → {outcome.last_bytes.get(name, first) >> 20} MiB")
    shown.add_row("hidden files in the store", str(outcome.leftovers))
    return shown


def main() -> None:
    """Print a line a run, and what happened; an exit code of 1 says that a promise was broken."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults (default: %(default)s)")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="inpo-soak-") as folder:
        outcome = soak(Path(folder), 60.0 * arguments.minutes, arguments.seed, console)
    console.print(table(outcome))


if __name__ == "__main__":
    main()
