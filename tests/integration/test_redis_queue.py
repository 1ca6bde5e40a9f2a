# redis-py leaves some parameters of its commands without a type.
# pyright: reportUnknownMemberType=false
"""What only a real Redis can show: broken entries, outages, a wiped server, many workers at once."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.cli.launcher.redis_server import free_port
from shared.contracts.work import Event, WorkItem
from shared.store.queue.protocol import Queue, QueueUnavailableError
from shared.store.queue.redis_queue import RedisQueue
from shared.store.redis_client import server_version
from tests.support.queues import age_leases, claim_now
from tests.support.redis_server import RedisServer
from tests.support.refusing_redis import REFUSALS, refusing_redis
from tests.support.waiting import wait_until
from tests.support.work import RUN, done, work_item

STREAM = "inpo:generate:stream"
GOOD = work_item(1).model_dump_json()


def queue_of(url: str, consumer: str = "one", lease_s: float = 30.0) -> RedisQueue:
    return RedisQueue(url, consumer=consumer, lease_s=lease_s)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": work_item().id, "item": "not JSON"},
        {"id": work_item().id, "item": b"\xff\xfe"},
        {"id": work_item().id, "item": '{"schema": 2, "kind": "generate"}'},
        {"id": work_item().id, "item": GOOD},
        {"id": work_item(kind="judge").id, "item": work_item(kind="judge").model_dump_json()},
        {"id": "elsewhere:generate:00000", "item": '{"kind": "generate", "run": "r", "step": "elsewhere"}'},
        {"foreign": "entry"},
    ],
    ids=["text", "bytes", "schema", "another id", "another kind", "another place", "no item"],
)
def test_an_entry_that_nobody_can_read_is_removed_and_told_and_the_next_one_is_served(
    redis_server: RedisServer, redis_url: str, fields: dict[Any, Any]
) -> None:
    queue = queue_of(redis_url)
    with redis_server.client() as client:
        client.xadd(STREAM, fields)
        client.hset("inpo:generate:items", mapping={str(fields.get("id", "")): "payload"})
        queue.submit(work_item(7))
        assert queue.items("generate")[-1][0].shard == 7
        claim = queue.claim(["generate"], wait_s=1.0)
        assert claim is not None
        assert claim.item.shard == 7
        assert client.xlen(STREAM) == 1
    assert queue.outstanding(RUN) == {claim.item.id}
    assert [event.type for _, event in queue.events("0", wait_s=0.0)] == ["item_undecodable"]


def test_an_unreadable_event_is_passed_over(redis_server: RedisServer, redis_url: str) -> None:
    queue = queue_of(redis_url)
    with redis_server.client() as client:
        client.xadd("inpo:events", {"event": "{"})
        client.xadd("inpo:events", {"foreign": "entry"})
    assert queue.events("0", wait_s=0.01) == []
    queue.publish(Event(type="good", run=RUN))
    assert [event.type for _, event in queue.events("0", wait_s=0.0)] == ["good"]


def test_a_silent_worker_is_found_behind_many_that_are_alive(redis_server: RedisServer, redis_url: str) -> None:
    """One XAUTOCLAIM looks at ten entries; the one whose worker died is the thirtieth."""
    queue = queue_of(redis_url)
    for shard in range(30):
        queue.submit(work_item(shard))
        claim_now(queue)
    with redis_server.client() as client:
        age_leases(client, "generate", num=1)
    claim = claim_now(queue_of(redis_url, "two"))
    assert (claim.item.shard, claim.attempt.number) == (29, 2)


def test_a_lease_runs_out_by_itself(redis_url: str) -> None:
    former, latter = queue_of(redis_url, "former", 0.5), queue_of(redis_url, "latter", 0.5)
    former.submit(work_item())
    old = claim_now(former)
    new = latter.claim(["generate"], wait_s=10.0)
    assert new is not None
    assert (new.item, new.attempt.number) == (old.item, 2)


def test_a_waiting_worker_gets_work_when_it_is_asked_for(redis_url: str) -> None:
    waiting = queue_of(redis_url)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(waiting.claim, ["judge", "generate"], wait_s=30.0)
        queue_of(redis_url, "controller").submit(work_item(5))
        claim = found.result(timeout=20)
    assert claim is not None
    assert claim.item.shard == 5


def test_a_waiting_reader_gets_an_event_when_it_is_published(redis_url: str) -> None:
    queue = queue_of(redis_url)
    start = queue.last_event()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(queue.events, start, wait_s=30.0)
        queue.publish(Event(type="run_changed", run=RUN))
        assert [event.type for _, event in found.result(timeout=20)] == ["run_changed"]


def test_every_item_is_worked_on_once_by_eight_workers(redis_url: str) -> None:
    controller = queue_of(redis_url, "controller")
    for shard in range(200):
        controller.submit(work_item(shard))
    handled: list[str] = []

    def work(number: int) -> None:
        queue = queue_of(redis_url, f"worker-{number}")
        while (claim := queue.claim(["generate"], wait_s=0.0)) is not None:
            handled.append(claim.item.id)
            assert queue.complete(claim, done(claim.item))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert Counter(handled) == Counter(work_item(shard).id for shard in range(200))
    assert controller.outstanding(RUN) == set()
    assert len(controller.events("0", wait_s=0.0)) == 200


CALLS: dict[str, Callable[[Queue, WorkItem], object]] = {
    "submit": lambda queue, item: queue.submit(item),
    "claim": lambda queue, item: queue.claim([item.kind], wait_s=0.0),
    "outstanding": lambda queue, item: queue.outstanding(item.run),
    "drop": lambda queue, item: queue.drop(item.run),
    "publish": lambda queue, item: queue.publish(done(item)),
    "events": lambda queue, _: queue.events("$", wait_s=0.0),
    "last_event": lambda queue, _: queue.last_event(),
    "check": lambda queue, _: queue.check(),
    "depths": lambda queue, _: queue.depths(),
    "items": lambda queue, item: queue.items(item.kind),
}


@pytest.mark.parametrize("name", CALLS)
def test_without_redis_every_call_says_that_the_queue_is_unavailable(name: str) -> None:
    queue = queue_of(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(QueueUnavailableError):
        CALLS[name](queue, work_item())


@pytest.mark.parametrize("word", REFUSALS)
def test_whatever_redis_refuses_with_is_an_outage_in_its_own_words(
    redis_server: RedisServer, redis_url: str, word: str
) -> None:
    """Never an error of another kind, which would end the worker. The same object works again afterwards."""
    with refusing_redis(redis_server.port) as proxy:
        queue = queue_of(proxy.url)
        queue.submit(work_item(1))
        held = claim_now(queue)
        queue.submit(work_item(2))
        of_a_claim: list[Callable[[Queue, WorkItem], object]] = [
            lambda queue, _: queue.renew(held),
            lambda queue, _: queue.complete(held, done(held.item)),
            lambda queue, _: queue.fail(held, "no"),
            lambda queue, _: queue.release(held),
        ]
        with proxy.refusing(REFUSALS[word]):
            for call in [*CALLS.values(), *of_a_claim]:
                with pytest.raises(QueueUnavailableError, match=word):
                    call(queue, work_item())
        assert queue.renew(held)
        assert claim_now(queue).item.shard == 2


def test_a_group_that_was_destroyed_is_made_again_with_all_its_work(redis_server: RedisServer, redis_url: str) -> None:
    queue = queue_of(redis_url)
    for shard in range(2):
        queue.submit(work_item(shard))
    held = claim_now(queue)
    redis_server.client().xgroup_destroy(STREAM, "workers")
    assert {claim_now(queue).item.shard for _ in range(2)} == {0, 1}
    assert queue.complete(held, done(held.item)), "it has the item again, so what it did counts"


def test_a_check_finds_what_only_refuses_to_write(redis_server: RedisServer, redis_url: str) -> None:
    queue = queue_of(redis_url)
    queue.check()
    with redis_server.client() as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            with pytest.raises(QueueUnavailableError, match="NOREPLICAS"):
                queue.check()
        finally:
            client.config_set("min-replicas-to-write", 0)
    queue.check()


def test_systems_of_different_namespaces_share_a_database_unseen(redis_url: str) -> None:
    mine = RedisQueue(redis_url, consumer="one", lease_s=30.0, namespace="inpo-mine")
    theirs = RedisQueue(redis_url, consumer="one", lease_s=30.0, namespace="inpo-theirs")
    theirs.submit(work_item())
    theirs.publish(done(work_item()))
    assert mine.claim(["generate"], wait_s=0.0) is None
    assert mine.outstanding(RUN) == set()
    assert mine.events("0", wait_s=0.0) == []
    assert mine.submit(work_item())
    assert mine.drop(RUN) == 1
    assert claim_now(theirs).item == work_item()


def test_a_redis_that_refuses_to_write_is_unavailable_not_broken(redis_server: RedisServer, redis_url: str) -> None:
    queue = queue_of(redis_url)
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(QueueUnavailableError, match="OOM"):
                queue.submit(work_item())
        finally:
            client.config_set("maxmemory", 0)
    assert queue.submit(work_item())


@pytest.mark.chaos
def test_redis_killed_and_started_again_has_lost_nothing(redis_server: RedisServer, redis_url: str) -> None:
    queue, controller = queue_of(redis_url), queue_of(redis_url, "controller")
    for shard in range(20):
        controller.submit(work_item(shard))
    held = claim_now(queue)
    queue.fail(claim_now(queue), "once")
    redis_server.kill()
    for call in (lambda: queue.renew(held), lambda: queue.complete(held, done(held.item))):
        with pytest.raises(QueueUnavailableError):
            call()
    redis_server.start()
    assert controller.outstanding(RUN) == {work_item(shard).id for shard in range(20)}
    assert queue.renew(held)
    assert queue.complete(held, done(held.item))
    claims = [queue.claim(["generate"], wait_s=5.0) for _ in range(19)]
    assert {claim.item.shard for claim in claims if claim} == set(range(1, 20))
    assert {claim.item.shard: claim.attempt.reasons for claim in claims if claim}[1] == ["once"]


@pytest.mark.chaos
def test_a_waiting_worker_outlives_the_death_of_redis(redis_server: RedisServer, redis_url: str) -> None:
    """The blocked call says that the queue is unavailable; the same object works again afterwards."""
    queue = queue_of(redis_url)
    started = threading.Event()

    def wait() -> None:
        started.set()
        with pytest.raises(QueueUnavailableError):
            queue.claim(["generate"], wait_s=60.0)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        started.wait(10)
        redis_server.kill()
        waiting.result(timeout=30)
    redis_server.start()
    queue.submit(work_item())
    wait_until(lambda: queue.claim(["generate"], wait_s=0.5) is not None, 10, "the item")


@pytest.mark.parametrize("lost", ["stream", "delayed"])
def test_work_whose_stream_or_delay_was_lost_can_be_asked_for_again(
    redis_server: RedisServer, redis_url: str, lost: str
) -> None:
    """A key evicted or deleted by hand must not leave an id outstanding for ever. The other item is still there."""
    queue = queue_of(redis_url)
    waiting, delayed = work_item(0), work_item(1)
    assert queue.submit(delayed)
    queue.defer(claim_now(queue), 60.0, "something is down")
    assert queue.submit(waiting)
    assert queue.outstanding(RUN) == {waiting.id, delayed.id}
    redis_server.client().delete(f"inpo:generate:{lost}")
    gone, kept = (waiting, delayed) if lost == "stream" else (delayed, waiting)
    assert queue.outstanding(RUN) == {kept.id}
    assert queue.submit(gone)
    assert not queue.submit(kept)


def test_a_server_tells_its_version_and_one_that_is_gone_is_unavailable(redis_url: str) -> None:
    assert server_version(redis_url, timeout_s=5.0)[0].isdigit()
    with pytest.raises(QueueUnavailableError):
        server_version(f"redis://127.0.0.1:{free_port()}/0", timeout_s=5.0)
