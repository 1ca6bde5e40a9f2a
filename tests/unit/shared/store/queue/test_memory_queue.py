"""What the twins offer beyond the real ones: faults on request."""

from shared.store.queue.memory_queue import ManualClock, MemoryQueue
from tests.support.queues import claim_now
from tests.support.work import done, work_item


def test_a_duplicate_is_delivered_beside_the_first_and_only_one_of_them_completes() -> None:
    queue = MemoryQueue(ManualClock(), 30.0)
    queue.submit(work_item())
    first = claim_now(queue)
    queue.duplicate(first.item.id)
    second = claim_now(queue.as_consumer("other"))
    assert (second.item, second.attempt.number) == (first.item, 1)
    assert not queue.complete(first, done(first.item))
    assert queue.as_consumer("other").complete(second, done(second.item))


def test_a_lease_lasts_as_long_as_the_clock_says_and_renewing_starts_it_again() -> None:
    clock = ManualClock()
    queue = MemoryQueue(clock, 30.0)
    other = queue.as_consumer("other")
    queue.submit(work_item())
    claim = claim_now(queue)
    clock.advance(29.0)
    assert queue.renew(claim)
    clock.advance(29.0)
    assert other.claim(["generate"], wait_s=0.0) is None
    clock.advance(1.0)
    assert claim_now(other).attempt.number == 2
