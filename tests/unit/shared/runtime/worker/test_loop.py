"""The worker loop, item by item, over the queue's and the store's twins."""

import errno
import threading
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.contracts.records import DeadLetter, Intent
from shared.contracts.work import Attempt, Event, WorkItem
from shared.runtime.worker.loop import EXIT_DEADLINE, GiveUp, Handler, Limits, RetryLater, Worker
from shared.store.artifacts import layout
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.store import NewerArtifactError, create_model, read_model
from shared.store.queue.protocol import Claim, QueueUnavailableError
from tests.support.unreliable_queue import UnreliableQueue
from tests.support.work import RUN, STEP, work_item

DEAD = layout.dead(STEP, "generate", 0)
LIMITS = Limits(lease_s=30.0, deadline_s=3600.0, drain_s=3600.0)


class StepRunner:
    """A worker with its queue and store, and what it did to the process."""

    def __init__(self, handler: Handler, limits: Limits = LIMITS) -> None:
        self.queue = UnreliableQueue()
        self.store = MemoryStore()
        self.stop = threading.Event()
        self.ended = threading.Event()
        self.statuses: list[int] = []
        self.worker = Worker(self.queue, self.store, ["generate"], handler, limits, end_process=self._end)

    def _end(self, status: int) -> None:
        self.statuses.append(status)
        self.ended.set()

    def work(self, claim: Claim) -> None:
        self.worker.work(claim, self.stop)

    def events(self) -> list[Event]:
        return [event for _, event in self.queue.events("0", wait_s=0.0)]

    def letter(self) -> DeadLetter:
        return read_model(self.store, DEAD, DeadLetter)


class SafetensorError(Exception):
    """As the library names its own."""


def nothing(_item: WorkItem, _attempt: Attempt) -> dict[str, Any]:
    return {}


def raising(error: Exception) -> Handler:
    def handler(_item: WorkItem, _attempt: Attempt) -> dict[str, Any]:
        raise error

    return handler


def test_what_a_handler_returns_is_told_with_the_item() -> None:
    bench = StepRunner(lambda item, attempt: {"num_pairs": 3, "try": attempt.number})
    bench.work(bench.queue.take(work_item()))
    assert bench.events() == [Event(type="item_done", run=RUN, data={"num_pairs": 3, "try": 1, "item": work_item().id})]
    assert bench.queue.outstanding(RUN) == set()


def test_an_item_that_raises_three_times_becomes_a_dead_letter_with_its_reasons() -> None:
    bench = StepRunner(raising(ValueError("no such token")))
    bench.work(bench.queue.take(work_item()))
    bench.work(bench.queue.take_again())
    assert not bench.store.exists(DEAD)
    bench.work(bench.queue.take_again())
    assert bench.letter() == DeadLetter(item=work_item().id, attempts=3, reasons=["ValueError: no such token"] * 3)
    assert bench.queue.outstanding(RUN) == set()
    assert [event.type for event in bench.events()] == ["item_retried", "item_retried", "item_dead"]


def test_the_dead_letter_is_durable_before_the_item_is_forgotten() -> None:
    """Redis is away for ever when the item is to be completed: the letter is there all the same."""
    bench = StepRunner(nothing)
    bench.queue.submit(work_item())
    for _ in range(3):
        bench.queue.take_again(0.0)
        bench.queue.expire_leases()
    claim = bench.queue.take_again(0.0)
    bench.queue.outage = 1
    bench.stop.set()
    bench.worker.work(claim, PretendRunning(bench.stop))
    assert bench.letter().attempts == 3
    assert bench.queue.outstanding(RUN) == {work_item().id}


class PretendRunning(threading.Event):
    """Not set when asked, set when waited for: a stop that comes in the middle of an outage."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self._stop = stop

    def wait(self, timeout: float | None = None) -> bool:
        return self._stop.wait(timeout)


def test_an_item_whose_worker_died_three_times_is_buried_without_another_try() -> None:
    bench = StepRunner(raising(AssertionError("must not run")))
    bench.queue.submit(work_item())
    for _ in range(3):
        bench.queue.take_again(0.0)
        bench.queue.expire_leases()
    bench.work(bench.queue.take_again(0.0))
    letter = bench.letter()
    assert letter.attempts == 3
    assert len(letter.reasons) == 1
    assert "died 3 times while holding it" in letter.reasons[0]
    assert [event.type for event in bench.events()] == ["item_dead"]


def test_a_dead_letter_names_failures_and_deaths() -> None:
    """One death and two failures are three tries."""
    bench = StepRunner(raising(ValueError("no")))
    bench.queue.take(work_item())
    bench.queue.expire_leases()
    bench.work(bench.queue.take_again(0.0))
    bench.work(bench.queue.take_again())
    letter = bench.letter()
    assert letter.reasons[:2] == ["ValueError: no"] * 2
    assert "died once" in letter.reasons[2]


@pytest.mark.parametrize(
    "error",
    [
        RetryLater(5.0, "judge down"),
        OSError(errno.ENOSPC, "disk full"),
        OSError(errno.EROFS, "read-only"),
        OSError(errno.EIO, "broken disk"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        QueueUnavailableError("connection refused"),
        NewerArtifactError("plan.json was written by INPO 9.1.0"),
    ],
)
def test_what_something_outside_is_to_blame_for_counts_no_try(error: Exception) -> None:
    bench = StepRunner(raising(error))
    bench.work(bench.queue.take(work_item()))
    for waits in range(1, 6):
        claim = bench.queue.take_again()
        assert (claim.attempt.number, claim.attempt.deferrals, claim.attempt.waits) == (1, 0, waits)
        bench.work(claim)
    assert not bench.store.exists(DEAD)


def test_a_full_disk_is_said_and_looked_at_again_after_a_second_then_ever_more_rarely() -> None:
    bench = StepRunner(raising(OSError(errno.ENOSPC, "No space left on device", "/store/x")))
    bench.queue.submit(work_item())
    pauses: list[float] = []
    with capture_logs() as logs:
        for _ in range(7):
            bench.work(bench.queue.take_again())
    pauses = [line["delay_s"] for line in logs if line["event"] == "item_deferred"]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    (waiting,) = bench.queue.waiting(RUN)
    assert waiting.waiting_for is not None
    assert waiting.waiting_for.startswith("the storage is full: No space left on device: /store/x; make room there")


def test_a_dead_letter_that_cannot_be_written_leaves_the_item_to_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = StepRunner(raising(GiveUp("no try can help")))
    create, refused = bench.store.create, [True]

    def full(key: str, data: bytes) -> bool:
        if refused.pop() if refused else False:
            raise OSError(errno.ENOSPC, "No space left on device", key)
        return create(key, data)

    monkeypatch.setattr(bench.store, "create", full)
    bench.work(bench.queue.take(work_item()))
    assert not bench.store.exists(DEAD)
    bench.queue.expire_leases()
    bench.work(bench.queue.take_again(0.0))
    assert bench.letter().reasons[-1] == "no try can help"


def test_what_something_outside_fails_on_is_counted_apart_from_tries_and_from_waits() -> None:
    bench = StepRunner(raising(RetryLater(5.0, "the judge fails on this", counted=True)))
    bench.work(bench.queue.take(work_item()))
    claim = bench.queue.take_again()
    assert (claim.attempt.number, claim.attempt.deferrals, claim.attempt.waits) == (1, 1, 0)


def test_giving_up_is_a_dead_letter_at_once() -> None:
    bench = StepRunner(raising(GiveUp("the judge has been away for a day")))
    bench.work(bench.queue.take(work_item()))
    assert bench.letter() == DeadLetter(item=work_item().id, attempts=1, reasons=["the judge has been away for a day"])
    assert bench.queue.outstanding(RUN) == set()


@pytest.mark.parametrize("action", ["cancel", "failed"])
def test_work_of_a_run_that_ended_is_dropped_without_running(action: Any) -> None:
    bench = StepRunner(raising(AssertionError("must not run")))
    create_model(bench.store, layout.intent(RUN, 1), Intent(action="pause"))
    create_model(bench.store, layout.intent(RUN, 2), Intent(action=action))
    bench.work(bench.queue.take(work_item()))
    assert [event.type for event in bench.events()] == ["item_dropped"]
    assert bench.queue.outstanding(RUN) == set()


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_work_of_a_run_that_goes_on_is_done(action: Any) -> None:
    bench = StepRunner(nothing)
    create_model(bench.store, layout.intent(RUN, 1), Intent(action="cancel"))
    create_model(bench.store, layout.intent(RUN, 2), Intent(action=action))
    bench.work(bench.queue.take(work_item()))
    assert [event.type for event in bench.events()] == ["item_done"]


def test_of_ten_thousand_intents_the_newest_decides_and_not_the_last_by_name() -> None:
    """As text 9999 comes after 10000: a cancelled run would go on being worked on."""
    bench = StepRunner(raising(AssertionError("must not run")))
    create_model(bench.store, layout.intent(RUN, 9_999), Intent(action="resume"))
    create_model(bench.store, layout.intent(RUN, 10_000), Intent(action="cancel"))
    bench.work(bench.queue.take(work_item()))
    assert [event.type for event in bench.events()] == ["item_dropped"]


def test_an_unreadable_intent_neither_stops_nor_kills_the_worker() -> None:
    bench = StepRunner(nothing)
    bench.store.create(layout.intent(RUN, 1), b"{")
    bench.work(bench.queue.take(work_item()))
    assert [event.type for event in bench.events()] == ["item_done"]


def test_a_worker_that_is_told_to_stop_hands_a_new_claim_back_uncounted() -> None:
    bench = StepRunner(raising(AssertionError("must not run")))
    claim = bench.queue.take(work_item())
    bench.stop.set()
    bench.work(claim)
    assert bench.queue.take_again(0.0).attempt.number == 1


def test_an_outage_at_the_end_of_an_item_is_waited_out_and_logged_once() -> None:
    bench = StepRunner(nothing)
    claim = bench.queue.take(work_item())
    bench.queue.outage = 3
    with capture_logs() as logs:
        bench.work(claim)
    assert [line["event"] for line in logs] == ["queue_unavailable", "queue_available"]
    assert [event.type for event in bench.events()] == ["item_done"]


def test_an_outage_between_items_is_waited_out() -> None:
    bench = StepRunner(nothing)

    def last(_item: WorkItem, _attempt: Attempt) -> dict[str, Any]:
        bench.stop.set()
        return {}

    bench.queue.submit(work_item())
    bench.queue.outage = 2
    Worker(bench.queue, bench.store, ["generate"], last, LIMITS).run(bench.stop)
    assert bench.queue.num_refused == 2
    assert [event.type for event in bench.events()] == ["item_done"]


def losing(bench: Callable[[], StepRunner], then: Handler) -> Handler:
    """A handler during which the item goes to another worker."""

    def handler(item: WorkItem, attempt: Attempt) -> dict[str, Any]:
        bench().queue.expire_leases()
        assert bench().queue.as_consumer("other").claim(["generate"], wait_s=0.0) is not None
        return then(item, attempt)

    return handler


def test_finishing_after_the_lease_was_lost_changes_nothing_and_is_no_error() -> None:
    bench: StepRunner = StepRunner(losing(lambda: bench, nothing))
    with capture_logs() as logs:
        bench.work(bench.queue.take(work_item()))
    assert [(line["event"], line["log_level"]) for line in logs] == [("lease_lost", "info")]
    assert bench.events() == []


def test_failing_for_the_third_time_after_the_lease_was_lost_writes_no_dead_letter() -> None:
    bench: StepRunner = StepRunner(losing(lambda: bench, raising(ValueError("no"))))
    bench.queue.submit(work_item())
    for _ in range(2):
        claim = bench.queue.take_again()
        bench.queue.fail(claim, "earlier")
    claim = bench.queue.take_again()
    assert claim.attempt.number == 3
    bench.work(claim)
    assert not bench.store.exists(DEAD)


def test_a_reason_that_json_cannot_hold_is_made_printable_and_short() -> None:
    bench = StepRunner(raising(ValueError("\ud800" + "x" * 10_000)))
    bench.work(bench.queue.take(work_item()))
    (reason,) = bench.queue.take_again().attempt.reasons
    assert reason.startswith("ValueError: \ufffdxxx")
    assert len(reason) == 2000


def test_a_result_that_cannot_be_told_leaves_the_item_to_its_lease() -> None:
    """A lone surrogate is no JSON for Redis; the twin raises for a result that is no mapping at all."""
    broken: Any = 5
    bench = StepRunner(lambda item, attempt: broken)
    with capture_logs() as logs:
        bench.work(bench.queue.take(work_item()))
    assert [line["event"] for line in logs] == ["item_unsettled"]
    assert bench.queue.outstanding(RUN) == {work_item().id}


def hanging(bench: Callable[[], StepRunner]) -> Handler:
    """Blocks until the process would have ended."""

    def handler(_item: WorkItem, _attempt: Attempt) -> dict[str, Any]:
        assert bench().ended.wait(20)
        return {}

    return handler


def test_an_item_that_hangs_beyond_the_deadline_ends_the_process_and_counts_a_try() -> None:
    bench: StepRunner = StepRunner(hanging(lambda: bench), Limits(lease_s=0.3, deadline_s=0.2))
    bench.work(bench.queue.take(work_item()))
    assert bench.statuses == [EXIT_DEADLINE]
    claim = bench.queue.take_again()
    assert (claim.attempt.number, claim.attempt.reasons) == (2, ["deadline of 0.2 s exceeded"])


def test_the_deadline_holds_without_a_lease_and_without_a_queue() -> None:
    bench: StepRunner = StepRunner(losing(lambda: bench, hanging(lambda: bench)), Limits(lease_s=0.3, deadline_s=0.5))
    claim = bench.queue.take(work_item())
    bench.queue.outage = 1000
    bench.stop.clear()
    threading.Thread(target=lambda: bench.ended.wait(20) and bench.stop.set(), daemon=True).start()
    # The fake process does not end, so the worker goes on to settle the item until it is told to stop.
    bench.work(claim)
    assert bench.statuses == [EXIT_DEADLINE]


def test_an_item_that_takes_longer_than_draining_may_is_handed_back_uncounted() -> None:
    bench: StepRunner = StepRunner(hanging(lambda: bench), Limits(lease_s=0.3, deadline_s=3600.0, drain_s=0.1))
    claim = bench.queue.take(work_item())
    threading.Timer(0.2, bench.stop.set).start()
    bench.work(claim)
    assert bench.statuses == [0]
    assert bench.queue.take_again(0.0).attempt.number == 1


def test_an_item_that_ends_within_the_drain_time_is_finished() -> None:
    bench = StepRunner(nothing)

    def handler(_item: WorkItem, _attempt: Attempt) -> dict[str, Any]:
        bench.stop.set()
        return {}

    worker = Worker(bench.queue, bench.store, ["generate"], handler, LIMITS)
    bench.queue.submit(work_item())
    worker.run(bench.stop)
    assert [event.type for event in bench.events()] == ["item_done"]
