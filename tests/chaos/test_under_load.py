"""Real services under everything that strangers and slow clients can hold open: whoever asks is still answered."""

import resource
import secrets
import socket
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from services.cli.launcher.up import RunningSystem, running_system, whereabouts
from tests.support.stub_system import create_run, ended_run, stub_system
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(400)]

NUM_IDLE, NUM_SLOW, NUM_STREAMS, NUM_COMPLETIONS = 1000, 200, 100, 90
HOLD_S = 20.0
# The machine that runs the tests is busy: what is printed is the measurement, these bounds are not.
PATIENCE_S = 15.0
MOST_GROWTH = 128 * 2**20
MOST_LOG = 2**20


@contextmanager
def many_files() -> Generator[None]:
    """Let the tests' own process have as many connections open as it needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connected(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((str(place.hostname), place.port or 0), timeout=60.0)


def trickle(connections: list[socket.socket], stop: threading.Event) -> None:
    """A byte to each of them again and again: half never end their head, half never end their body."""
    head = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for index, connection in enumerate(connections):
        connection.sendall(head + (b"X-Slow: " if index % 2 else b"Content-Length: 100000\r\n\r\n"))
    while not stop.wait(0.5):
        for connection in connections:
            try:
                connection.send(b"x")
            except OSError:  # the server ended it
                continue


def seconds(ask: Callable[[], httpx.Response]) -> float:
    """How long an answer takes that is none of a failure."""
    began = time.monotonic()
    response = ask()
    assert response.status_code < 300, response.text
    return time.monotonic() - began


def complete(client: httpx.Client, policy: str, prompt: str) -> int:
    """The status of a completion."""
    body = {"model": "promoted", "prompt": prompt, "max_tokens": 4}
    return client.post(f"{policy}/v1/completions", json=body).status_code


def post(client: httpx.Client, url: str) -> httpx.Response:
    """A POST that is told apart from all others."""
    return client.post(url, headers={"Idempotency-Key": secrets.token_hex(8)})


def footprint(system: RunningSystem, name: str) -> tuple[int, int]:
    """Bytes in memory, and bytes of log."""
    memory = psutil.Process(system.processes[name]).memory_info().rss
    return memory, (system.logs / f"{name}.log").stat().st_size


class Held:
    """Everything that is held open at once."""

    def __init__(self, system: RunningSystem, policy: str, run: str, stack: ExitStack) -> None:
        self.stop = threading.Event()
        self.callers = stack.enter_context(ThreadPoolExecutor(NUM_COMPLETIONS + 1))
        stack.callback(self.stop.set)
        self.idle = [stack.enter_context(connected(system.url)) for _ in range(NUM_IDLE)]
        slow = [stack.enter_context(connected(system.url)) for _ in range(NUM_SLOW)]
        self.callers.submit(trickle, slow, self.stop)
        address = f"{system.url}/v1/runs/{run}/events"
        client = stack.enter_context(
            httpx.Client(timeout=120.0, trust_env=False, limits=httpx.Limits(max_connections=None))
        )
        self.streams = [stack.enter_context(client.stream("GET", address)) for _ in range(NUM_STREAMS)]
        self.completions = [
            self.callers.submit(complete, client, policy, "a prompt that takes long") for _ in range(NUM_COMPLETIONS)
        ]


def test_health_and_others_are_answered_while_everything_is_held_open(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with many_files(), running_system(state, stub_system(lease_s=5.0)) as system, ExitStack() as stack:
        found = whereabouts(state)
        assert found is not None
        run = create_run(system, tmp_path)
        ended_run(system, run)
        client = stack.enter_context(httpx.Client(timeout=60.0, trust_env=False))
        promote = f"{system.url}/v1/weights/{run}@1:promote"
        assert httpx.post(promote, trust_env=False, timeout=60.0).status_code == 200
        policy = found.policy_url
        wait_until(lambda: complete(client, policy, "a prompt") == 200, 60.0, "the promoted weights to be served")
        before = {name: footprint(system, name) for name in ("controller", "policy")}
        held = Held(system, policy, run, stack)
        assert [stream.status_code for stream in held.streams] == [200] * NUM_STREAMS
        times: dict[str, list[float]] = {}
        ends = time.monotonic() + HOLD_S
        while time.monotonic() < ends:
            for name, url in (("controller", system.url), ("policy", policy)):
                for path in ("/healthz", "/readyz"):
                    address = url + path
                    times.setdefault(name + path, []).append(seconds(lambda address=address: client.get(address)))
            times.setdefault("controller POST", []).append(seconds(lambda: post(client, promote)))
            held.stop.wait(0.5)
        held.stop.set()
        statuses = [completion.result() for completion in held.completions]
        after = {name: footprint(system, name) for name in before}
    print({name: f"{len(took)} times, {max(took):.2f} s at most" for name, took in times.items()})
    for name, (memory, log) in before.items():
        grown, written = after[name][0] - memory, after[name][1] - log
        print(f"{name}: memory {grown / 2**20:+.1f} MiB, log {written / 2**10:.0f} KiB in {HOLD_S:.0f} s")
        assert grown < MOST_GROWTH
        assert written < MOST_LOG
    assert statuses == [200] * NUM_COMPLETIONS
    assert max(max(took) for took in times.values()) < PATIENCE_S
