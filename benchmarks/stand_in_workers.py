"""All workers in one process that computes nothing: every shard gets the same ready-made tables, at once."""

import os
from pathlib import Path

from shared.contracts.records import Message, PreferencePair, PublishedWeights, Rollout, Verdict
from shared.contracts.weights import WeightVersion
from shared.contracts.work import WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, create_model
from shared.store.artifacts.tables import encode
from shared.store.queue.protocol import told
from shared.store.queue.redis_queue import RedisQueue

LEASE_S = 60.0
_MAKES = {"generate": ("rollouts",), "judge": ("judgments", "pairs"), "train": ()}


def work(folder: Path, redis_url: str) -> None:
    """All workers, until they are terminated."""
    store = DirectoryStore(folder / "store")
    queue = RedisQueue(redis_url, consumer="workers", lease_s=LEASE_S)
    tables = ready_made(folder / "tables")
    while True:
        claim = queue.claim(["train", "judge", "generate"], wait_s=1.0)
        if claim is None:
            continue
        for name in _MAKES[claim.item.kind]:
            target = store.path(f"{claim.item.step}/{name}/{claim.item.shard:05d}.parquet")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(tables / name, target)
        if claim.item.kind == "train":
            _publish(store, claim.item)
        queue.complete(claim, told("item_done", claim))


def _publish(store: DirectoryStore, item: WorkItem) -> None:
    parts = item.step.split("/")
    number = 0 if parts[-1] == "base" else int(parts[-2])
    version = WeightVersion(
        run=item.run, number=number, digest="5f" * 32, directory=f"runs/{item.run}/weights/{number}"
    )
    create_model(store, layout.published(item.step), PublishedWeights(version=version))


def ready_made(folder: Path) -> Path:
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
