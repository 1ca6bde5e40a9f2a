"""The whole system on this machine: Redis and the four services, kept running until the context ends.

```
with running_system(Path(".inpo")) as system:
    httpx.get(system.url + "/readyz")
    os.kill(system.processes["trainer"], signal.SIGKILL)      # comes back by itself
```
"""

import os
import stat
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, Field

from services.cli.failures import StartError, UserError
from services.cli.launcher.locking import only_one
from services.cli.launcher.redis_server import answers_ping, find_redis_server, free_port, is_free, redis_arguments
from services.cli.launcher.supervisor import GRACE_S, Command, Status, Supervisor
from services.cli.launcher.surroundings import services_environment
from services.cli.launcher.vllm import START_S, VLLM, VllmOptions, VllmServer, healthy, vllm_server
from shared.runtime.key_files import is_ours_alone, write_private

SERVICES = ("controller", "policy", "oracle", "trainer")
REDIS = "redis"
UP = "up.json"

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Whereabouts(BaseModel):
    """`up.json` in the state directory: where a running system is found, for the other commands."""

    url: str
    oracle_url: str
    policy_url: str
    redis_url: str = Field(repr=False)
    store_dir: Path
    vllm_url: str | None = None


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What may differ from the defaults.

    Port 0 takes a free one. `env` goes to every service, `service_env` to the one that it names; `commands` replaces
    `python -P -m services.<name>` of the services that it names. With `vllm` the policy samples from a vLLM server,
    which may take `START_S` longer to be ready.
    """

    port: int = 0
    redis_url: str | None = field(default=None, repr=False)
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
    redis_url: str = field(repr=False)
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
    logs = _folders(state_dir)
    with only_one(state_dir) as lock:
        redis_port = free_port() if chosen.redis_url is None else None
        vllm = None if chosen.vllm is None else vllm_server(chosen.vllm, state_dir)
        where = _whereabouts(state_dir, chosen, redis_port, vllm)
        supervisor = Supervisor(_commands(state_dir, chosen, where, redis_port, vllm), held=[lock])
        place = state_dir / UP
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
            write_private(place, where.model_dump_json(indent=1))
            yield system
        finally:
            place.unlink(missing_ok=True)
            supervisor.stop()


def whereabouts(state_dir: Path) -> Whereabouts | None:
    """Where the system of a state directory is, None when none runs there.

    `UserError` when the file that says so may be somebody else's, or names another machine: a key is sent there.
    """
    place = state_dir / UP
    try:
        found = Whereabouts.model_validate_json(place.read_bytes())
    except (OSError, ValueError):
        return None
    addresses = (found.url, found.oracle_url, found.policy_url)
    if not is_ours_alone(place) or any(urlsplit(address).hostname != "127.0.0.1" for address in addresses):
        raise UserError(
            f"{place} says where a system runs, but is not what `inpo up` wrote for this user alone: name the "
            "controller with --url, choose another --state-dir, or remove the file"
        )
    return found


def _folders(state_dir: Path) -> Path:
    """The state directory, in which nobody else can put a file, and the folder of its logs in it."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = stat.S_IMODE(state_dir.stat().st_mode)
    if mode & _WRITABLE_BY_OTHERS:
        try:
            state_dir.chmod(mode & ~_WRITABLE_BY_OTHERS)
        except PermissionError:
            reason = f"others can write to {state_dir}, which is not yours: choose another --state-dir"
            raise StartError(reason) from None
    logs = state_dir / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    return logs


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
    surroundings = services_environment(os.environ)
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
        environment = {**defaults, **surroundings, **shared, **own, **options.env, **options.service_env.get(name, {})}
        arguments = options.commands.get(name, (sys.executable, "-P", "-m", f"services.{name}"))
        commands.append(Command(name, arguments, environment, logs / f"{name}.log", folder=state_dir))
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
