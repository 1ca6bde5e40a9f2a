"""Real worker processes over a real Redis, and what happens to them in production."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.contracts.records import DeadLetter
from shared.store.artifacts import layout
from shared.store.artifacts.store import read_model
from shared.store.queue.redis_queue import RedisQueue
from tests.support.queues import RedisBench, claim_now
from tests.support.redis_server import RedisServer
from tests.support.toy_pool import ToyPool
from tests.support.waiting import wait_until
from tests.support.work import RUN, STEP, work_item

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

DEAD = layout.dead(STEP, "generate", 0)


def controller(url: str, num_items: int) -> RedisQueue:
    queue = RedisQueue(url, consumer="controller", lease_s=1.0)
    for shard in range(num_items):
        queue.submit(work_item(shard))
    return queue


def tending(pool: ToyPool, predicate: Callable[[], bool]) -> Callable[[], bool]:
    def tended() -> bool:
        pool.tend()
        return predicate()

    return tended


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("raises", "ValueError: this shard is poison"),
        ("kills", "the worker died 3 times while holding it"),
        ("hangs", "deadline of 2 s exceeded"),
        ("backtracks", "the worker died 3 times while holding it"),
    ],
)
def test_poison_ends_as_a_dead_letter_after_three_tries_while_the_other_items_finish(
    redis_url: str, tmp_path: Path, mode: str, reason: str
) -> None:
    queue = controller(redis_url, 21)
    with ToyPool(redis_url, tmp_path, mode, lease_s=1.0, deadline_s=2.0) as pool:
        wait_until(tending(pool, lambda: not queue.outstanding(RUN)), 90, "all items to be settled")
        letter = read_model(pool.store, DEAD, DeadLetter)
        assert pool.made() == set(range(1, 21))
        assert pool.starts()[0] == 3
    assert letter.attempts == 3
    assert all(text.startswith(reason) for text in letter.reasons)
    assert len(letter.reasons) == (1 if mode in ("kills", "backtracks") else 3)
    deaths = {"raises": {0}, "kills": {3}, "hangs": {3}, "backtracks": {1, 2, 3}}
    assert len(pool.statuses) in deaths[mode], "who backtracks may still do so when the others have buried its item"
    assert queue.submit(work_item(0)), "nothing of it stays in the queue"


def test_work_that_blocks_for_three_leases_is_started_once(redis_url: str, tmp_path: Path) -> None:
    queue = controller(redis_url, 1)
    with ToyPool(redis_url, tmp_path, "slow", lease_s=1.0, deadline_s=60.0) as pool:
        wait_until(tending(pool, lambda: not queue.outstanding(RUN)), 60, "the slow item")
        assert pool.starts()[0] == 1
        assert pool.statuses == []
    assert [event.type for _, event in queue.events("0", wait_s=0.0)] == ["item_done"]


def test_redis_killed_in_the_middle_loses_no_work(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> None:
    """Shard 0 is in a worker's hands for the whole outage; the workers live through it."""
    queue = controller(redis_url, 30)
    with ToyPool(redis_url, tmp_path, "slow", lease_s=1.0, deadline_s=60.0) as pool:
        wait_until(lambda: 0 in pool.starts(), 60, "the first item to start")
        redis_server.kill()
        redis_server.start()
        wait_until(tending(pool, lambda: not queue.outstanding(RUN)), 60, "all items")
        assert pool.made() == set(range(30))
        assert pool.statuses == []
        assert not pool.store.exists(DEAD)


def test_a_wiped_redis_needs_only_to_be_asked_again(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> None:
    queue = controller(redis_url, 30)
    with ToyPool(redis_url, tmp_path, "slow", lease_s=1.0, deadline_s=60.0) as pool:
        wait_until(lambda: 0 in pool.starts(), 60, "the first item to start")
        RedisBench(redis_url, redis_server.client()).lose_everything()

        def all_made() -> bool:
            pool.tend()
            missing = set(range(30)) - pool.made()
            for shard in missing:
                queue.submit(work_item(shard))
            return not missing and not queue.outstanding(RUN)

        wait_until(all_made, 60, "all items")
        assert pool.statuses == []
        assert not pool.store.exists(DEAD)


def test_a_worker_told_to_stop_hands_a_long_item_back_at_once(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Its lease would last ten minutes: only handing back explains that another worker gets the item, uncounted."""
    controller(redis_url, 1)
    with ToyPool(redis_url, tmp_path, "hangs", lease_s=600.0, deadline_s=600.0, size=1) as pool:
        wait_until(lambda: 0 in pool.starts(), 60, "the item to start")
        assert pool.terminate() == [0]
    claim = claim_now(RedisQueue(redis_url, consumer="other", lease_s=600.0))
    assert claim.attempt.number == 1


def test_an_idle_worker_told_to_stop_ends_well(redis_url: str, tmp_path: Path) -> None:
    queue = controller(redis_url, 1)
    with ToyPool(redis_url, tmp_path, "good", lease_s=30.0, deadline_s=60.0, size=1) as pool:
        wait_until(tending(pool, lambda: not queue.outstanding(RUN)), 60, "the item")
        assert pool.terminate() == [0]
