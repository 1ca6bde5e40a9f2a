"""What every queue promises, proved for Redis and for its twin in memory."""

from collections.abc import Iterator

import pytest

from shared.contracts.work import Event
from shared.store.queue.protocol import MAX_TRIES, Wait
from shared.store.queue.redis_queue import KINDS
from tests.support.queues import MemoryBench, QueueBench, RedisBench, claim_at_last, claim_now
from tests.support.redis_server import RedisServer
from tests.support.work import RUN, done, work_item


@pytest.fixture(params=["memory", "redis"])
def bench(request: pytest.FixtureRequest) -> Iterator[QueueBench]:
    if request.param == "memory":
        yield MemoryBench()
        return
    url: str = request.getfixturevalue("redis_url")
    server: RedisServer = request.getfixturevalue("redis_server")
    with server.client() as client:
        yield RedisBench(url, client)


def event_types(bench: QueueBench) -> list[str]:
    return [event.type for _, event in bench.consumer("reader").events("0", wait_s=0.0)]


def test_asking_twice_is_asking_once(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    assert queue.submit(work_item())
    assert not queue.submit(work_item())
    claim = claim_now(queue)
    assert not queue.submit(work_item()), "in flight is outstanding too"
    assert claim.item == work_item()
    assert claim.attempt.number == 1
    assert queue.claim(["generate"], wait_s=0.0) is None


def test_an_item_submitted_before_the_first_worker_existed_is_delivered(bench: QueueBench) -> None:
    bench.consumer("controller").submit(work_item(3))
    assert claim_now(bench.consumer("worker")).item.shard == 3


def test_a_completed_item_is_forgotten_told_and_may_be_asked_for_again(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    queue.submit(work_item())
    claim = claim_now(queue)
    assert queue.complete(claim, done(claim.item))
    assert queue.outstanding(RUN) == set()
    assert event_types(bench) == ["item_done"]
    assert not queue.complete(claim, done(claim.item)), "twice is once"
    assert event_types(bench) == ["item_done"]
    assert queue.submit(work_item())


def test_items_come_in_the_order_in_which_they_were_asked_for(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    for shard in (4, 1, 3):
        queue.submit(work_item(shard))
    assert [claim_now(queue).item.shard for _ in range(3)] == [4, 1, 3]


def test_a_lease_that_ran_out_goes_to_another_worker_and_cannot_be_stolen_back(bench: QueueBench) -> None:
    former, latter = bench.consumer("former"), bench.consumer("latter")
    former.submit(work_item())
    old = claim_now(former)
    bench.expire_leases()
    new = claim_now(latter)
    assert (new.item, new.attempt.number) == (old.item, 2)
    assert not former.renew(old)
    assert not former.complete(old, done(old.item))
    former.fail(old, "too late")
    former.defer(old, 0.0, "too late")
    former.release(old)
    assert event_types(bench) == []
    assert latter.renew(new)
    assert latter.complete(new, done(new.item))


def test_a_renewed_lease_is_not_given_away(bench: QueueBench) -> None:
    former, latter = bench.consumer("former"), bench.consumer("latter")
    former.submit(work_item())
    claim = claim_now(former)
    bench.expire_leases()
    assert former.renew(claim), "nobody has taken it yet"
    assert latter.claim(["generate"], wait_s=0.0) is None
    assert former.complete(claim, done(claim.item))


def test_heartbeats_are_not_tries(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    queue.submit(work_item())
    claim = claim_now(queue)
    assert all(queue.renew(claim) for _ in range(10))
    bench.expire_leases()
    assert claim_now(bench.consumer("two")).attempt.number == 2


def test_an_expired_lease_is_served_before_new_work(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    queue.submit(work_item(0))
    claim_now(queue)
    bench.expire_leases()
    queue.submit(work_item(1))
    assert claim_now(bench.consumer("two")).item.shard == 0


def test_the_third_failure_keeps_the_item_leased_for_its_dead_letter(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    queue.submit(work_item())
    for number in (1, 2):
        claim = claim_at_last(bench, queue)
        assert (claim.attempt.number, claim.exhausted) == (number, False)
        queue.fail(claim, f"reason {number}")
    claim = claim_at_last(bench, queue)
    history = queue.fail(claim, "reason 3")
    assert history.number == MAX_TRIES
    assert history.reasons == ["reason 1", "reason 2", "reason 3"]
    assert bench.consumer("two").claim(["generate"], wait_s=0.0) is None
    assert queue.outstanding(RUN) == {work_item().id}
    assert event_types(bench) == ["item_retried", "item_retried"]
    assert queue.renew(claim)
    assert queue.complete(claim, done(claim.item))


def test_a_worker_that_dies_before_writing_the_dead_letter_leaves_it_to_the_next(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    queue.submit(work_item())
    for _ in range(MAX_TRIES):
        queue.fail(claim_at_last(bench, queue), "raises")
    bench.expire_leases()
    claim = claim_now(bench.consumer("two"))
    assert claim.exhausted
    assert claim.attempt.reasons == ["raises"] * MAX_TRIES


def test_deaths_and_failures_count_together(bench: QueueBench) -> None:
    bench.consumer("one").submit(work_item())
    claim_now(bench.consumer("dies"))
    bench.expire_leases()
    raises = bench.consumer("raises")
    second = claim_now(raises)
    assert second.attempt.number == 2
    raises.fail(second, "ValueError: no")
    third = claim_at_last(bench, raises)
    assert (third.attempt.number, third.attempt.reasons) == (3, ["ValueError: no"])


def test_an_item_whose_worker_died_three_times_is_exhausted(bench: QueueBench) -> None:
    bench.consumer("one").submit(work_item())
    for number in range(1, MAX_TRIES + 1):
        claim = claim_now(bench.consumer(f"worker-{number}"))
        assert (claim.attempt.number, claim.exhausted) == (number, False)
        bench.expire_leases()
    assert claim_now(bench.consumer("fourth")).exhausted


def test_deferring_counts_no_try_and_waits(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    queue.submit(work_item())
    for deferrals in range(5):
        claim = claim_at_last(bench, queue)
        assert (claim.attempt.number, claim.attempt.deferrals) == (1, deferrals)
        queue.defer(claim, 0.05, "the judge is down")
    queue.defer(claim_at_last(bench, queue), 3600.0, "the judge is down")
    assert queue.claim(["generate"], wait_s=0.0) is None
    assert queue.depths()["generate"].delayed == 1
    assert queue.outstanding(RUN) == {work_item().id}
    assert not queue.submit(work_item())
    assert set(event_types(bench)) == {"item_deferred"}


def test_waiting_for_what_is_unavailable_counts_as_nothing_and_is_timed_until_the_work_gets_further(
    bench: QueueBench,
) -> None:
    """Progress 3, 3, 3 is one row of waits; 4 begins the next; a counted deferral ends it."""
    queue = bench.consumer("one")
    queue.submit(work_item())
    seen: list[tuple[int, int, str | None]] = []
    for progress in (3, 3, 3, 4):
        claim = claim_at_last(bench, queue)
        seen.append((claim.attempt.number, claim.attempt.waits, claim.attempt.waiting_for))
        queue.defer(claim, 0.05, f"judge at {progress}", Wait(progress))
    assert seen == [(1, 0, None), (1, 1, "judge at 3"), (1, 2, "judge at 3"), (1, 3, "judge at 3")]
    (waiting,) = queue.waiting(RUN)
    assert (waiting.waits, waiting.waiting_for, waiting.deferrals) == (1, "judge at 4", 0)
    claim = claim_at_last(bench, queue)
    assert claim.attempt.waited_s > 0.0
    queue.defer(claim, 0.05, "the judge fails")
    assert queue.waiting(RUN) == []
    claim = claim_at_last(bench, queue)
    assert (claim.attempt.waits, claim.attempt.deferrals, claim.attempt.waited_s) == (0, 1, 0.0)
    assert queue.waiting("another-run") == []


def test_a_long_row_of_waits_is_told_less_and_less_often(bench: QueueBench) -> None:
    """Of ten waits the 1st, 2nd, 4th and 8th are events."""
    queue = bench.consumer("one")
    queue.submit(work_item())
    for _ in range(10):
        queue.defer(claim_at_last(bench, queue), 0.0, "the judge is down", Wait())
    assert event_types(bench) == ["item_deferred"] * 4


def test_releasing_counts_no_try_and_does_not_wait(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    queue.submit(work_item())
    queue.fail(claim_now(queue), "once")
    for _ in range(5):
        claim = claim_at_last(bench, queue)
        assert (claim.attempt.number, claim.attempt.reasons) == (2, ["once"])
        queue.release(claim)
        claim = claim_now(bench.consumer("two"))
        bench.consumer("two").release(claim)


def test_a_claim_of_several_kinds_takes_one_item(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    for kind in KINDS:
        queue.submit(work_item(kind=kind))
    claims = [queue.claim(KINDS, wait_s=0.0) for _ in range(4)]
    assert [claim and claim.item.kind for claim in claims] == [*KINDS, None]
    assert [queue.depths()[kind].in_flight for kind in KINDS] == [1, 1, 1]


def test_a_claim_takes_only_the_kinds_it_names(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    queue.submit(work_item(kind="judge"))
    assert queue.claim(["generate", "train"], wait_s=0.0) is None
    assert queue.claim(["train", "judge"], wait_s=0.0) is not None


def test_dropping_a_run_forgets_what_nobody_works_on_and_nothing_of_another_run(bench: QueueBench) -> None:
    """Five items of the run: one in flight, one delayed, three waiting; four of them go."""
    queue = bench.consumer("one")
    for shard in range(4):
        queue.submit(work_item(shard))
    queue.submit(work_item(kind="train"))
    queue.submit(work_item(run="toy-00010"))
    in_flight = claim_now(queue)
    queue.defer(claim_now(queue), 3600.0, "later")
    assert queue.drop(RUN) == 4
    assert queue.outstanding(RUN) == {in_flight.item.id}
    assert queue.outstanding("toy-00010") == {work_item(run="toy-00010").id}
    assert claim_now(queue).item.run == "toy-00010"
    assert queue.complete(in_flight, done(in_flight.item))


def test_depths_and_items_say_what_waits_runs_and_is_delayed(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    for shard in range(3):
        queue.submit(work_item(shard))
    queue.fail(claim_now(queue), "broken")
    claim_now(queue)
    depth = queue.depths()["generate"]
    assert (depth.waiting, depth.in_flight, depth.delayed) == (1, 1, 1)
    items = queue.items("generate")
    assert [item.shard for item, _ in items] == [0, 1, 2]
    assert items[0][1].reasons == ["broken"]
    assert queue.items("judge") == []
    assert queue.depths()["judge"].waiting == 0


def test_events_are_read_on_from_the_last_one_without_a_gap(bench: QueueBench) -> None:
    queue = bench.consumer("one")
    assert queue.last_event() == "0"
    queue.publish(Event(type="old", run=RUN))
    start = queue.last_event()
    queue.publish(Event(type="between two calls", run=RUN, data={"text": "ü", "number": 1.5}))
    found = queue.events(start, wait_s=0.0)
    assert [(event.type, event.data) for _, event in found] == [("between two calls", {"text": "ü", "number": 1.5})]
    assert queue.events(found[-1][0], wait_s=0.0) == []
    assert queue.events("$", wait_s=0.0) == []
    assert event_types(bench) == ["old", "between two calls"]
    with pytest.raises(ValueError, match="yesterday"):
        queue.events("yesterday", wait_s=0.0)


def test_losing_everything_voids_claims_and_asking_again_brings_the_work_back(bench: QueueBench) -> None:
    queue, other = bench.consumer("one"), bench.consumer("two")
    for shard in range(2):
        queue.submit(work_item(shard))
    void = claim_now(queue)
    queue.publish(Event(type="old", run=RUN))
    last = queue.last_event()
    bench.lose_everything()
    assert other.claim(["generate"], wait_s=0.0) is None
    assert not queue.renew(void)
    queue.fail(void, "unheard")
    assert not queue.complete(void, done(void.item))
    assert queue.outstanding(RUN) == set()
    assert queue.drop(RUN) == 0
    assert queue.depths()["generate"].waiting == 0
    assert [queue.submit(work_item(shard)) for shard in range(2)] == [True, True]
    assert [claim_now(other).attempt.number for _ in range(2)] == [1, 1]
    queue.publish(Event(type="new", run=RUN))
    assert [event.type for _, event in queue.events(last, wait_s=0.0)] == ["new"]
