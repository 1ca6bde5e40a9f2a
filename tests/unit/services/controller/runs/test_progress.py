"""A run that waits for something outside says for what."""

from pathlib import Path

from services.controller.runs.progress import with_waiting
from services.controller.runs.repository import RunRepository
from shared.contracts.rest.runs import RunDetail
from shared.contracts.work import Attempt, WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.queue.memory_queue import ManualClock, MemoryQueue
from shared.store.queue.protocol import QueueUnavailableError, Wait
from tests.support.specs import a_spec


class LostQueue(MemoryQueue):
    """Its Redis is away."""

    def waiting(self, run: str) -> list[Attempt]:
        raise QueueUnavailableError("connection refused")


def a_running_run(tmp_path: Path) -> RunDetail:
    repository = RunRepository(MemoryStore())
    return repository.detail(repository.create(a_spec(tmp_path)))


def test_the_longest_wait_is_told_with_the_number_of_the_others(tmp_path: Path) -> None:
    view = a_running_run(tmp_path)
    clock = ManualClock()
    queue = MemoryQueue(clock, lease_s=30.0)
    assert with_waiting(view, queue) == view
    for shard in range(3):
        queue.submit(WorkItem(kind="judge", run=view.id, step=layout.half_step(view.id, 1, 1), shard=shard))
        claim = queue.claim(["judge"], wait_s=0.0)
        assert claim is not None
        queue.defer(claim, 60.0, f"waiting for the judge: shard {shard}", Wait())
        clock.advance(1.0)
    assert with_waiting(view, queue).progress.waiting == "waiting for the judge: shard 0 (and 2 more shards)"


def test_a_run_that_does_not_run_waits_for_nothing_and_a_lost_redis_is_a_wait(tmp_path: Path) -> None:
    view = a_running_run(tmp_path)
    queue = LostQueue(ManualClock(), lease_s=30.0)
    assert with_waiting(view, queue).progress.waiting == "waiting for Redis: connection refused"
    paused = view.model_copy(update={"state": "paused"})
    assert with_waiting(paused, queue) == paused


def test_work_whose_try_failed_is_told_with_the_reason(tmp_path: Path) -> None:
    view = a_running_run(tmp_path)
    queue = MemoryQueue(ManualClock(), lease_s=30.0)
    queue.submit(WorkItem(kind="generate", run=view.id, step=layout.half_step(view.id, 1, 1)))
    claim = queue.claim(["generate"], wait_s=0.0)
    assert claim is not None
    queue.fail(claim, "SwapRefusedError: the engine computes another model")
    expected = "1 of 3 tries failed: SwapRefusedError: the engine computes another model"
    assert with_waiting(view, queue).progress.waiting == expected
