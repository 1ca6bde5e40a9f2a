"""When the loop looks: several events are one look, and the dearer a look, the longer the rest after it."""

import errno
import json
import threading
from pathlib import Path

import pytest

from services.controller.loop import LONGEST_REST_S, ReconcileLoop
from services.controller.runs.repository import RunRepository
from shared.contracts.work import Event
from shared.store.artifacts import layout
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.store import NewerArtifactError
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.specs import a_spec


class Rests(threading.Event):
    """Set after so many rests; `rests_s` are their lengths, and nobody really rests."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.num = num
        self.rests_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.rests_s.append(timeout or 0.0)
        if len(self.rests_s) == self.num:
            self.set()
        return self.is_set()


class BusyQueue(MemoryQueue):
    """Between two looks a hundred shards finish; `waits` says how many events each wait for one found."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0, lease_s=30.0)
        self.num_looks = 0
        self.waits: list[int] = []

    def outstanding(self, run: str) -> set[str]:
        self.num_looks += 1
        for _ in range(100):
            self.publish(Event(type="item_done", run=run))
        return super().outstanding(run)

    def events(self, after: str, *, wait_s: float) -> list[tuple[str, Event]]:
        found = super().events(after, wait_s=wait_s)
        self.waits.append(len(found))
        return found


class Costs:
    """A clock by which every look costs the same."""

    def __init__(self, look_s: float) -> None:
        self.look_s = look_s
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.look_s
        return self.now_s


def a_loop(tmp_path: Path, queue: MemoryQueue, look_s: float) -> ReconcileLoop:
    """A run whose base is planned and asked for: nothing is due any more."""
    loop = ReconcileLoop(RunRepository(MemoryStore()), queue, clock=Costs(look_s))
    loop.repository.create(a_spec(tmp_path))
    assert [loop.reconcile() for _ in range(3)] == [1, 1, 0]
    return loop


def test_the_events_of_a_hundred_shards_are_one_look(tmp_path: Path) -> None:
    """Each wait finds the hundred that came since its look began, none of those before them."""
    queue = BusyQueue()
    loop = a_loop(tmp_path, queue, 0.001)
    before = queue.num_looks
    loop.run(Rests(5))
    assert queue.num_looks - before == 5
    assert queue.waits == [100] * 5


@pytest.mark.parametrize(("look_s", "rest_s"), [(0.001, 0.02), (0.05, 1.0), (10.0, LONGEST_REST_S)])
def test_the_rest_after_a_look_is_twenty_times_its_cost(tmp_path: Path, look_s: float, rest_s: float) -> None:
    loop = a_loop(tmp_path, MemoryQueue(lambda: 0.0, lease_s=30.0), look_s)
    rests = Rests(3)
    loop.run(rests)
    assert rests.rests_s == pytest.approx([rest_s] * 3)


def test_a_plan_of_a_newer_release_is_waited_for_and_its_run_says_so_without_failing(tmp_path: Path) -> None:
    """An older controller that is still up during an upgrade must not end what the newer one has begun."""
    queue, store = MemoryQueue(lambda: 0.0, lease_s=30.0), MemoryStore()
    loop = ReconcileLoop(RunRepository(store), queue)
    record = loop.repository.create(a_spec(tmp_path))
    newer = {"type": "base", "run": record.id, "model": {"path": "a/b"}, "quantised": True, "written_by": "9.1.0"}
    store.create(layout.plan(layout.base(record.id)), json.dumps(newer).encode())
    with pytest.raises(NewerArtifactError, match=r"written by INPO 9\.1\.0"):
        loop.reconcile()
    loop.run(Rests(1))
    assert "written by INPO 9.1.0" in str(loop.last_error)
    assert "written by INPO 9.1.0" in str(loop.repository.view(record).reason)
    assert store.list(layout.intents(record.id)) == []


def test_a_full_store_is_waited_for_and_said_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three looks meet a full disk; the fourth plans the base."""
    store, queue = MemoryStore(), MemoryQueue(lambda: 0.0, lease_s=30.0)
    loop = ReconcileLoop(RunRepository(store), queue)
    record = loop.repository.create(a_spec(tmp_path))
    create, refused, told = store.create, [0], list[str | None]()

    def full(key: str, data: bytes) -> bool:
        if refused[0] < 3:
            refused[0] += 1
            raise OSError(errno.ENOSPC, "No space left on device", key)
        return create(key, data)

    class Told(Rests):
        def wait(self, timeout: float | None = None) -> bool:
            told.append(loop.last_error)
            return super().wait(timeout)

    monkeypatch.setattr(store, "create", full)
    loop.run(Told(4))
    assert store.exists(layout.plan(layout.base(record.id)))
    reason = f"the storage is full: No space left on device: {layout.plan(layout.base(record.id))}"
    assert [text is not None and text.startswith(reason) for text in told] == [True, True, True, False]


def test_a_loop_that_ends_without_being_told_to_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = MemoryQueue(lambda: 0.0, lease_s=30.0)
    loop = ReconcileLoop(RunRepository(MemoryStore()), queue)

    def broken() -> str:
        raise SystemExit(3)

    monkeypatch.setattr(queue, "last_event", broken)
    with pytest.raises(SystemExit):
        loop.run(threading.Event())
    assert loop.last_error == "has ended"
