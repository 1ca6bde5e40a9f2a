"""What the controller costs: runs of ever more shards on a real Redis and disk, then a tick among 1,000 ended runs.

The workers are a process of their own that hands out one ready-made table a kind of artifact, as fast as it can: far
faster than any engine, so the controller has more to look at in a second than it ever will.
"""

import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import FastAPI

from services.cli.launcher.redis_server import answers_ping, find_redis_server, free_port, redis_arguments
from services.controller.api.app import controller_app
from services.controller.loop import ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from shared.contracts.records import Message, PreferencePair, PublishedWeights, Rollout, Verdict
from shared.contracts.rest.runs import RunRecord
from shared.contracts.spec import RunSpec
from shared.contracts.weights import WeightVersion
from shared.contracts.work import WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, create_model
from shared.store.artifacts.tables import encode
from shared.store.queue.protocol import told
from shared.store.queue.redis_queue import RedisQueue

POLL_S = 0.1
NUM_ENDED = 1_000
LEASE_S = 60.0


@dataclass(frozen=True, slots=True)
class Played:
    """A run from its creation to its end: wall time, CPU time of the reconcile loop, seconds of every GET meanwhile."""

    num_shards: int
    wall_s: float
    cpu_s: float
    gets_s: list[float]


@dataclass(frozen=True, slots=True)
class Among:
    """Among many ended runs: the first tick, which knows none of them, a later one, the first page of the list."""

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
        ticks = [_timed(system.loop.reconcile) for _ in range(50)]
        pages = [_timed(lambda: _get(system.app, "/v1/runs")) for _ in range(20)]
        return Among(ticks[0], statistics.median(ticks[5:]), statistics.median(pages))


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

        workers = multiprocessing.get_context("spawn").Process(target=_work, args=(self.folder, self.redis_url))
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
def _system(folder: Path) -> Iterator[_System]:
    port = free_port()
    command = redis_arguments(find_redis_server(), folder / "redis", port)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
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


def _work(folder: Path, redis_url: str) -> None:
    """All workers, until they are terminated."""
    store = DirectoryStore(folder / "store")
    queue = RedisQueue(redis_url, consumer="workers", lease_s=LEASE_S)
    tables = _ready_made(folder / "tables")
    while True:
        claim = queue.claim(["train", "judge", "generate"], wait_s=1.0)
        if claim is None:
            continue
        for name in {"generate": ("rollouts",), "judge": ("judgments", "pairs")}.get(claim.item.kind, ()):
            target = store.path(f"{claim.item.step}/{name}/{claim.item.shard:05d}.parquet")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(tables / name, target)
        if claim.item.kind == "train":
            _publish(store, claim.item)
        queue.complete(claim, told("item_done", claim))


def _publish(store: DirectoryStore, item: WorkItem) -> None:
    parts = item.step.split("/")
    number = 0 if parts[-1] == "base" else int(parts[-2])
    version = WeightVersion(run=item.run, number=number, digest="5f" * 32, directory=f"runs/{item.run}/weights/{number}")
    create_model(store, layout.published(item.step), PublishedWeights(version=version))


def _ready_made(folder: Path) -> Path:
    """A table a kind of artifact, with one row."""
    folder.mkdir(exist_ok=True)
    prompt = [Message(role="user", content="question")]
    rollout = Rollout(
        prompt_id="p",
        prompt=prompt,
        prompt_ids=[1],
        responses=["a", "b"],
        response_ids=[[2], [3]],
        log_probs=[[-1.0], [-1.0]],
        finish_reasons=["length", "length"],
        versions=[0, 0],
        digests=["5f" * 32] * 2,
    )
    verdict = Verdict(
        prompt_id="p",
        a=0,
        b=1,
        draw=0,
        status="ok",
        probability=0.75,
        answer=1.0,
        judge="bench",
        judge_revision="1",
        latency_s=0.0,
    )
    pair = PreferencePair(
        prompt_id="p",
        prompt=prompt,
        chosen="a",
        rejected="b",
        prompt_ids=[1],
        chosen_ids=[2],
        rejected_ids=[3],
        chosen_log_prob=-1.0,
        rejected_log_prob=-1.0,
        preference=1.0,
        probability=0.75,
        judge_revision="1",
        chosen_version=0,
        rejected_version=0,
    )
    (folder / "rollouts").write_bytes(encode(Rollout, [rollout]))
    (folder / "judgments").write_bytes(encode(Verdict, [verdict]))
    (folder / "pairs").write_bytes(encode(PreferencePair, [pair]))
    return folder


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


def _timed(call: object) -> float:
    began = time.monotonic()
    call()  # type: ignore[operator]
    return time.monotonic() - began


def run() -> None:
    pass


del tempfile
