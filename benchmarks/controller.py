"""What the controller costs: runs of ever more shards on a real Redis and disk, then a tick among 1,000 ended runs.

The workers do nothing but link ready-made tables, so more shards finish in a second than with any real engine. CPU time
is that of the reconcile loop's thread: its looks, plans, requests for work and the commit.
"""

import asyncio
import json
import logging
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog
from fastapi import FastAPI
from rich.console import Console
from rich.table import Table

from benchmarks.stand_in_workers import LEASE_S, work
from services.cli.launcher.redis_server import answers_ping, find_redis_server, free_port, redis_arguments
from services.controller.api.app import controller_app
from services.controller.loop import SWITCH_S, ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from shared.contracts.rest.runs import RunRecord
from shared.contracts.spec import RunSpec
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore
from shared.store.queue.redis_queue import RedisQueue

POLL_S = 0.1
NUM_ENDED = 1_000
SHARDS = (100, 1_000, 10_000)

GOAL_CPU_S = 30.0
GOAL_GROWTH = 1.5  # of the CPU time a shard, from the fewest to the most shards
GOAL_GET_S = 0.050
GOAL_TICK_S = 0.005
GOAL_PAGE_S = 0.050


@dataclass(frozen=True, slots=True)
class Played:
    """A run from its creation to its end: wall time, CPU time of the reconcile loop, seconds of every GET meanwhile."""

    num_shards: int
    wall_s: float
    cpu_s: float
    gets_s: list[float]

    @property
    def cpu_a_shard_s(self) -> float:
        """CPU time a shard."""
        return self.cpu_s / self.num_shards

    @property
    def get_p95_s(self) -> float:
        """95% of the GETs took no longer."""
        return sorted(self.gets_s)[math.ceil(0.95 * len(self.gets_s)) - 1]


@dataclass(frozen=True, slots=True)
class Among:
    """Among many ended runs: CPU time of the first tick, which knows none of them, and of a later one; the list."""

    first_tick_s: float
    tick_s: float
    page_s: float


def play(folder: Path, num_shards: int) -> Played:
    """One iteration of so many shards."""
    with _system(folder) as system:
        record = system.create(num_shards, iterations=1)
        began = time.monotonic()
        cpu_s, gets_s = system.play(record)
        return Played(num_shards, time.monotonic() - began, cpu_s, gets_s)


def among_ended(folder: Path) -> Among:
    """A run that waits for its workers, while the store holds `NUM_ENDED` others that have succeeded."""
    with _system(folder) as system:
        system.play(ended := system.create(4, iterations=3))
        for number in range(NUM_ENDED):
            _copy_run(system.store, ended, number)
        system.create(4, iterations=1)
        system.restart()
        ticks = [_timed(system.loop.reconcile, time.thread_time) for _ in range(50)]
        pages = [_timed(lambda: _get(system.app, "/v1/runs")) for _ in range(20)]
        return Among(ticks[0], statistics.median(ticks[5:]), statistics.median(pages))


def run(console: Console) -> None:
    """Play and measure, and say which goals are met."""
    sys.setswitchinterval(SWITCH_S)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    played: list[Played] = []
    table = Table(title="the controller's cost of one iteration")
    for name in ("shards", "wall s", "loop CPU s", "CPU ms a shard", "GET median ms", "GET p95 ms"):
        table.add_column(name, justify="right")
    for num_shards in SHARDS:
        with tempfile.TemporaryDirectory() as folder:
            played.append(play(Path(folder), num_shards))
        table.add_row(*_cells(played[-1]))
    with tempfile.TemporaryDirectory() as folder:
        among = among_ended(Path(folder))
    console.print(table)
    for line in goals(played, among):
        console.print(line, highlight=False)


def goals(played: Sequence[Played], among: Among) -> list[str]:
    """A line a goal: what was measured, what was wanted, and whether it is met."""
    fewest, most = played[0], played[-1]
    growth = most.cpu_a_shard_s / fewest.cpu_a_shard_s
    get_s = max(run.get_p95_s for run in played)
    first = f"{1000 * among.first_tick_s:.0f} ms"
    ended = f"with {NUM_ENDED:,} ended runs"
    return [
        _goal(f"loop CPU for {most.num_shards:,} shards", most.cpu_s, GOAL_CPU_S, "s"),
        _goal(f"growth of the CPU a shard from {fewest.num_shards:,} shards", growth, GOAL_GROWTH, "times"),
        _goal("p95 of GET /v1/runs/{id}", 1000 * get_s, 1000 * GOAL_GET_S, "ms"),
        _goal(f"CPU of a tick {ended} (the first: {first})", 1000 * among.tick_s, 1000 * GOAL_TICK_S, "ms"),
        _goal(f"first page of GET /v1/runs {ended}", 1000 * among.page_s, 1000 * GOAL_PAGE_S, "ms"),
    ]


def _goal(what: str, measured: float, at_most: float, unit: str) -> str:
    return f"{what}: {measured:.3g} {unit}, goal {at_most:g}: {'met' if measured <= at_most else 'missed'}"


def _cells(run: Played) -> tuple[str, ...]:
    gets = (1000 * statistics.median(run.gets_s), 1000 * run.get_p95_s)
    shown = (run.wall_s, run.cpu_s, 1000 * run.cpu_a_shard_s, *gets)
    return (f"{run.num_shards:,}", *(f"{value:.1f}" for value in shown))


class _System:
    """A controller in this process, its queue and its store."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.redis_url = redis_url
        self.store = DirectoryStore(folder / "store")
        self.restart()

    def restart(self) -> None:
        """A controller that remembers nothing."""
        queue = RedisQueue(self.redis_url, consumer="controller", lease_s=LEASE_S)
        self.loop = ReconcileLoop(RunRepository(self.store), queue)
        self.app = controller_app(ControllerSettings(), self.store, queue, queue, self.loop)

    def create(self, num_shards: int, *, iterations: int) -> RunRecord:
        """A run of one prompt a shard, without evaluations."""
        return RunRepository(self.store).create(_spec(self.folder, num_shards, iterations))

    def play(self, record: RunRecord) -> tuple[float, list[float]]:
        """Reconcile the run to its end: the loop's CPU time, and how long each `GET /v1/runs/{id}` meanwhile took."""
        stop, cpu_s, gets_s = threading.Event(), list[float](), list[float]()

        def reconcile() -> None:
            self.loop.run(stop)
            cpu_s.append(time.thread_time())

        workers = multiprocessing.get_context("spawn").Process(target=work, args=(self.folder, self.redis_url))
        workers.start()
        thread = threading.Thread(target=reconcile)
        thread.start()
        try:
            while not (gets_s and RunRepository(self.store).ended(record)):
                gets_s.append(_timed(lambda: _get(self.app, f"/v1/runs/{record.id}")))
                time.sleep(POLL_S)
        finally:
            stop.set()
            thread.join()
            workers.terminate()
            workers.join()
        return cpu_s[0], gets_s


@contextmanager
def _system(folder: Path) -> Generator[_System]:
    port = free_port()
    command = redis_arguments(find_redis_server(), folder / "redis", port)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)  # noqa: S603  (our own command)
    try:
        while not answers_ping(port):
            time.sleep(0.05)
        yield _System(folder, f"redis://127.0.0.1:{port}/0")
    finally:
        server.terminate()
        server.wait()


def _spec(folder: Path, num_shards: int, iterations: int) -> RunSpec:
    prompts, model = folder / f"prompts-{num_shards}.jsonl", folder / "model"
    prompts.write_text("".join(json.dumps({"prompt": f"question {row}"}) + "\n" for row in range(num_shards)))
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")
    return RunSpec.model_validate(
        {
            "name": "bench",
            "model": {"path": str(model)},
            "prompts": {"sets": [{"path": str(prompts)}], "num_per_iteration": num_shards, "format": "text"},
            "sampling": {"num_responses": 2, "max_new_tokens": 4},
            "oracle": {"judge": {"kind": "rules", "entry_point": "services.oracle.rules.words:known_word_share"}},
            "algorithm": {"name": "inpo", "eta": 0.3, "tau": 0.1},
            "evaluation": {"num_prompts": 0},
            "iterations": iterations,
            "shard_size": 1,
        }
    )


def _copy_run(store: DirectoryStore, record: RunRecord, number: int) -> None:
    """The same run under another id; its artifacts are links."""
    copy = record.model_copy(update={"id": f"{record.id}-{number:04d}"})
    source, target = store.path(layout.run(record.id)), store.path(layout.run(copy.id))
    for file in source.rglob("*"):
        if file.is_file() and file.name != "run.json":
            linked = target / file.relative_to(source)
            linked.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, linked)
    (target / "run.json").write_text(copy.model_dump_json())


def _get(app: FastAPI, path: str) -> None:
    async def get() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            (await client.get(path)).raise_for_status()

    asyncio.run(get())


def _timed(call: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> float:
    began = clock()
    call()
    return clock() - began
