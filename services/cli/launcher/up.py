"""The whole system on this machine: Redis and the four services, kept running until the context ends.

```
with running_system(Path(".inpo")) as system:
    httpx.get(system.url + "/readyz")
    os.kill(system.processes["trainer"], signal.SIGKILL)      # comes back by itself
```
"""

import os
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from services.cli.failures import StartError
from services.cli.launcher.locking import only_one
from services.cli.launcher.redis_server import answers_ping, find_redis_server, free_port, is_free, redis_arguments
from services.cli.launcher.supervisor import GRACE_S, Command, Status, Supervisor
from services.cli.launcher.vllm import START_S, VLLM, VllmOptions, VllmServer, healthy, vllm_server

SERVICES = ("controller", "policy", "oracle", "trainer")
REDIS = "redis"


class Whereabouts(BaseModel):
    """`up.json` in the state directory: where a running system is found, for the other commands."""

    url: str
    oracle_url: str
    policy_url: str
    redis_url: str
    store_dir: Path
    vllm_url: str | None = None


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What may differ from the defaults.

    Port 0 takes a free one. `env` goes to every service, `service_env` to the one that it names; `commands` replaces
    `python -m services.<name>` of the services that it names. With `vllm` the policy samples from a vLLM server, which
    may take `START_S` longer to be ready.
    """

    port: int = 0
    redis_url: str | None = None
    lease_s: float | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    service_env: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    ready_timeout_s: float = 180.0
    vllm: VllmOptions | None = None


@dataclass(frozen=True, slots=True)
class RunningSystem:
    """A system that is ready. `redis_port` is None when somebody else's Redis is used."""

    url: str
    oracle_url: str
    redis_url: str
    redis_port: int | None
    store_dir: Path
    logs: Path
    supervisor: Supervisor
    vllm_url: str | None

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by name, of what runs at this moment; each leads a process group of its own."""
        return self.supervisor.pids()

    def statuses(self) -> list[Status]:
        """Every process, running or not."""
        return self.supervisor.statuses()

    def tail(self, name: str) -> str:
        """The end of a process's log."""
        return self.supervisor.tail(name)


@contextmanager
def running_system(state_dir: Path, options: UpOptions | None = None) -> Generator[RunningSystem]:
    """Start everything below `state_dir`, wait until it is ready, and end it with the context.

    `StartError` when another system runs there, the port is taken, or a part does not come up in time; it holds the
    end of the log that says why. The processes end as well when this one is killed.
    """
    chosen = options or UpOptions()
    state_dir = state_dir.resolve()
    logs = state_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with only_one(state_dir) as lock:
        redis_port = free_port() if chosen.redis_url is None else None
        vllm = None if chosen.vllm is None else vllm_server(chosen.vllm, logs)
        where = _whereabouts(state_dir, chosen, redis_port, vllm)
        supervisor = Supervisor(_commands(state_dir, chosen, where, redis_port, vllm), held=[lock])
        place = state_dir / "up.json"
        try:
            supervisor.start()
            system = RunningSystem(
                where.url,
                where.oracle_url,
                where.redis_url,
                redis_port,
                where.store_dir,
                logs,
                supervisor,
                where.vllm_url,
            )
            _wait_until_ready(system, chosen.ready_timeout_s + (START_S if vllm is not None else 0.0))
            place.write_text(where.model_dump_json(indent=1))
            yield system
        finally:
            place.unlink(missing_ok=True)
            supervisor.stop()


def whereabouts(state_dir: Path) -> Whereabouts | None:
    """Where the system of a state directory is, None when none runs there."""
    try:
        return Whereabouts.model_validate_json((state_dir / "up.json").read_bytes())
    except (OSError, ValueError):
        return None


def _whereabouts(state_dir: Path, options: UpOptions, redis_port: int | None, vllm: VllmServer | None) -> Whereabouts:
    port = options.port or free_port()
    if not is_free(port):
        raise StartError(f"port {port} is in use: choose another with --port, or end what listens there")
    beside = port + 1 if options.port and port < 65_535 and is_free(port + 1) else free_port()
    return Whereabouts(
        url=f"http://127.0.0.1:{port}",
        oracle_url=f"http://127.0.0.1:{beside}",
        policy_url=f"http://127.0.0.1:{free_port()}",
        redis_url=options.redis_url or f"redis://127.0.0.1:{redis_port}/0",
        store_dir=state_dir / "store",
        vllm_url=None if vllm is None else vllm.url,
    )


def _commands(
    state_dir: Path, options: UpOptions, where: Whereabouts, redis_port: int | None, vllm: VllmServer | None
) -> list[Command]:
    logs = state_dir / "logs"
    commands: list[Command] = []
    if redis_port is not None:
        arguments = redis_arguments(find_redis_server(), state_dir / "redis", redis_port)
        commands.append(Command(REDIS, arguments, os.environ, logs / "redis.log", foundation=True))
    if vllm is not None:
        commands.append(vllm.command)
    # A worker drains for less than the time after which it is killed, unless the user says otherwise.
    defaults = {"INPO_DRAIN_S": str(GRACE_S / 2)}
    shared = {
        "PYTHONUNBUFFERED": "1",
        "INPO_STORE_DIR": str(where.store_dir),
        "INPO_REDIS_URL": where.redis_url,
        **({"INPO_LEASE_S": str(options.lease_s)} if options.lease_s is not None else {}),
        **(vllm.settings if vllm is not None else {}),
    }
    urls = {"controller": where.url, "oracle": where.oracle_url, "policy": where.policy_url}
    ports = {name: url.rpartition(":")[2] for name, url in urls.items()}
    for name in SERVICES:
        own = {"INPO_PORT": ports[name]} if name in ports else {}
        environment = {**defaults, **os.environ, **shared, **own, **options.env, **options.service_env.get(name, {})}
        arguments = options.commands.get(name, (sys.executable, "-m", f"services.{name}"))
        commands.append(Command(name, arguments, environment, logs / f"{name}.log"))
    return commands


def _wait_until_ready(system: RunningSystem, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while (waiting := _not_ready(system)) is not None:
        name, reason = waiting
        failing = system.supervisor.failing() or _died_starting(system)
        if failing is not None:
            raise StartError(f"{failing} does not start; {_log_of(system, failing)}")
        if time.monotonic() > deadline:
            raise StartError(f"{name} is not ready after {timeout_s:.0f} s: {reason}; {_log_of(system, name)}")
        pause.wait(0.1)


def _died_starting(system: RunningSystem) -> str | None:
    """VLLM takes too long to die for the supervisor to see that it dies at once; a second start would die likewise."""
    return next((status.name for status in system.statuses() if status.name == VLLM and status.last_exit), None)


def _not_ready(system: RunningSystem) -> tuple[str, str] | None:
    """The first part that is not ready, and why."""
    if system.redis_port is not None and not answers_ping(system.redis_port):
        return REDIS, "no answer to PING"
    if system.vllm_url is not None and not healthy(system.vllm_url):
        return VLLM, f"no answer from {system.vllm_url}/health"
    for name, url in (("controller", system.url), ("oracle", system.oracle_url)):
        reason = _unready(url)
        if reason is not None:
            return name, reason
    return next(((status.name, "not running") for status in system.statuses() if status.pid is None), None)


def _unready(url: str) -> str | None:
    import httpx  # noqa: PLC0415  (0.1 s that `inpo --help` does without)

    try:
        answer = httpx.get(f"{url}/readyz", timeout=5.0, trust_env=False)
    except httpx.HTTPError as error:
        return f"{url}/readyz: {error or type(error).__name__}"
    return None if answer.status_code == 200 else f"{url}/readyz answers {answer.status_code}: {answer.text[:500]}"


def _log_of(system: RunningSystem, name: str) -> str:
    log = system.logs / f"{name}.log"
    return f"the end of {log}:\n{system.tail(name) or '(empty)'}"
