# redis-py leaves some parameters of its commands without a type.
# pyright: reportUnknownMemberType=false
"""Two releases at one queue: what the older one does not understand it hands back, and the newer one does it."""

import json
from typing import Any

import pytest
import redis

from shared.contracts.work import Attempt, WorkItem
from shared.store.artifacts.versions import VERSION
from shared.store.queue import entries, redis_queue
from shared.store.queue.protocol import Claim, held_up
from shared.store.queue.redis_queue import RedisQueue
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.work import RUN, done, work_item

STREAM, ITEMS, HISTORY = (f"inpo:generate:{name}" for name in ("stream", "items", "history"))


class NewerItem(WorkItem):
    """As a later release may have it."""

    priority: int = 0


def submitted_by_the_newer(client: redis.Redis, **fields: Any) -> str:
    """What `Queue.submit` of the later release leaves in Redis."""
    item = work_item()
    payload = json.dumps({"written_by": "9.1.0", **item.model_dump(), **fields})
    client.hset(ITEMS, item.id, payload)
    client.xgroup_create(STREAM, "workers", "0", mkstream=True)
    client.xadd(STREAM, {"id": item.id, "item": payload})
    return item.id


def queue_of(url: str, consumer: str) -> RedisQueue:
    return RedisQueue(url, consumer=consumer, lease_s=30.0)


@pytest.mark.parametrize(
    "fields", [{"priority": 3}, {"kind": "distil"}, {"shard": None}], ids=["field", "kind", "shape"]
)
def test_an_item_of_a_newer_release_is_handed_back_uncounted_and_its_run_says_for_whom_it_waits(
    redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(redis_queue, "OTHER_RELEASE_PAUSE_S", 0.0)
    older = queue_of(redis_url, "older")
    with redis_server.client() as client:
        identity = submitted_by_the_newer(client, **fields)
    for _ in range(5):
        assert older.claim(["generate"], wait_s=0.0) is None
    assert older.outstanding(RUN) == {identity}, "it is neither buried nor asked for a second time"
    [history] = older.waiting(RUN)
    assert (history.number, history.reasons, history.waits) == (1, [], 5)
    assert history.waiting_for is not None
    assert f"was written by INPO 9.1.0, this is INPO {VERSION}" in history.waiting_for
    told = [event for _, event in older.events("0", wait_s=0.0)]
    assert [(event.type, event.run) for event in told] == [("item_deferred", RUN)] * 3, "the 1st, 2nd and 4th time"


def test_a_worker_of_the_newer_release_gets_it_on_its_first_try_and_completes_it(
    redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_queue, "OTHER_RELEASE_PAUSE_S", 0.01)
    older, newer = queue_of(redis_url, "older"), queue_of(redis_url, "newer")
    with redis_server.client() as client:
        submitted_by_the_newer(client, priority=3)
    assert older.claim(["generate"], wait_s=0.0) is None
    monkeypatch.setattr(entries, "WorkItem", NewerItem)
    claims: list[Claim] = []
    wait_until(lambda: bool(claims.extend(filter(None, [newer.claim(["generate"], wait_s=0.0)])) or claims), 10, "it")
    [claim] = claims
    assert isinstance(claim.item, NewerItem)
    assert (claim.item.priority, claim.attempt.number) == (3, 1)
    assert newer.complete(claim, done(claim.item))
    assert newer.outstanding(RUN) == set()


def test_the_older_release_goes_on_with_its_own_items_meanwhile(redis_server: RedisServer, redis_url: str) -> None:
    older = queue_of(redis_url, "older")
    with redis_server.client() as client:
        submitted_by_the_newer(client, priority=3)
    older.submit(work_item(1))
    claim = older.claim(["generate"], wait_s=1.0)
    assert claim is not None
    assert claim.item.shard == 1


def test_an_item_of_release_0_1_0_which_signed_nothing_is_worked_on(redis_server: RedisServer, redis_url: str) -> None:
    item = work_item(4)
    payload = f'{{"kind":"generate","run":"{RUN}","step":"{item.step}","shard":4}}'
    with redis_server.client() as client:
        client.hset(ITEMS, item.id, payload)
        client.xadd(STREAM, {"id": item.id, "item": payload})
    claim = queue_of(redis_url, "newer").claim(["generate"], wait_s=0.0)
    assert claim is not None
    assert claim.item == item


@pytest.mark.parametrize(
    ("stored", "number"),
    [
        ('{"number": 2, "reasons": ["no"], "lanes": ["fast"], "written_by": "9.1.0"}', 2),
        ('{"number": "many"}', 1),
        ("torn", 1),
    ],
)
def test_a_history_that_is_not_all_understood_neither_ends_a_worker_nor_hides_a_run(
    redis_server: RedisServer, redis_url: str, stored: str, number: int
) -> None:
    queue = queue_of(redis_url, "one")
    queue.submit(work_item())
    with redis_server.client() as client:
        client.hset(HISTORY, work_item().id, stored)
    reasons = ["no"] if number == 2 else []
    assert queue.waiting(RUN) == held_up([Attempt(number=number, reasons=reasons)])
    claim = queue.claim(["generate"], wait_s=0.0)
    assert claim is not None
    assert (claim.attempt.number, claim.attempt.reasons) == (number, reasons)
