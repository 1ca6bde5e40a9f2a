"""What somebody decides of a run: on the state that is, once, in order, and for a run of his own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.controller.reconciling.actions import perform
from services.controller.reconciling.observer import Observer
from services.controller.reconciling.reconciler import Fail
from services.controller.runs.repository import NotNowError, RunRepository
from shared.contracts.records import Intent
from shared.store.artifacts import layout
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.requests import RequestIdentity
from shared.store.artifacts.runs import intent_in_force
from shared.store.artifacts.store import create_model
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.specs import a_spec

PAUSE, RESUME, CANCEL = (Intent(action=action) for action in ("pause", "resume", "cancel"))


class Overtaken(MemoryStore):
    """Somebody else writes an intent just before the next one is written here."""

    faster: Intent | None = None

    def create(self, key: str, data: bytes) -> bool:
        if "/intents/" in key and self.faster is not None:
            faster, self.faster = self.faster, None
            create_model(self, key, faster)
        return super().create(key, data)


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue(lambda: 0.0, lease_s=30.0)


def state(repository: RunRepository, run: str) -> str:
    return repository.view(repository.record(run)).state


def test_a_pause_that_a_cancel_overtakes_is_refused_and_the_run_stays_cancelled(
    queue: MemoryQueue, tmp_path: Path
) -> None:
    store = Overtaken()
    repository = RunRepository(store)
    run = repository.create(a_spec(tmp_path)).id
    store.faster = CANCEL
    with pytest.raises(NotNowError, match="cannot pause a run that is cancelled"):
        repository.change(queue, run, PAUSE)
    with pytest.raises(NotNowError, match="cannot resume a run that is cancelled"):
        repository.change(queue, run, RESUME)
    assert state(repository, run) == "cancelled"
    assert len(store.list(layout.intents(run))) == 1


def test_a_cancel_that_a_pause_overtakes_is_decided_anew_and_counts(queue: MemoryQueue, tmp_path: Path) -> None:
    store = Overtaken()
    repository = RunRepository(store)
    run = repository.create(a_spec(tmp_path)).id
    store.faster = PAUSE
    repository.change(queue, run, CANCEL)
    assert state(repository, run) == "cancelled"
    assert store.list(layout.intents(run)) == ["0001.json", "0002.json"]


def test_a_failure_that_a_cancel_overtakes_does_not_replace_it(queue: MemoryQueue, tmp_path: Path) -> None:
    """The reconciler looked before the cancel came; also where it gives up a run that is broken."""
    repository = RunRepository(MemoryStore())
    record = repository.create(a_spec(tmp_path))
    seen = Observer(repository.store).observe(record.id, record.spec)
    repository.change(queue, record.id, CANCEL)
    perform(repository.store, queue, record, Fail("too late", seen.intent_number))
    repository.give_up(queue, record, "too late, too")
    assert state(repository, record.id) == "cancelled"


def test_intents_are_read_by_their_numbers_beyond_9999(queue: MemoryQueue, tmp_path: Path) -> None:
    """As text 10000.json comes before 9999.json."""
    repository = RunRepository(MemoryStore())
    run = repository.create(a_spec(tmp_path)).id
    for number, intent in ((9998, PAUSE), (9999, RESUME)):
        create_model(repository.store, layout.intent(run, number), intent)
    for intent in (PAUSE, RESUME, CANCEL):
        repository.change(queue, run, intent)
        assert intent_in_force(repository.store, run) == intent
    assert layout.in_order(repository.store.list(layout.intents(run)))[-2:] == ["10001.json", "10002.json"]


def test_an_intent_that_is_torn_is_followed_by_the_next_one(queue: MemoryQueue, tmp_path: Path) -> None:
    repository = RunRepository(MemoryStore())
    record = repository.create(a_spec(tmp_path))
    repository.store.create(layout.intent(record.id, 1), b"")
    view = repository.view(record)
    assert (view.state, layout.intent(record.id, 1) in str(view.reason)) == ("failed", True)
    repository.change(queue, record.id, RESUME)
    assert state(repository, record.id) == "running"


def test_a_taken_id_is_another_id_and_nobody_gets_a_strangers_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same random part comes up twice: the second client still has a run of its own, with its own prompts."""
    tokens: Iterator[str] = iter(["aa" * 16, "aa" * 16, "bb" * 16])
    drawn: Callable[[int], str] = lambda num_bytes: next(tokens) if num_bytes == 16 else ""  # noqa: E731
    monkeypatch.setattr("services.controller.runs.repository.secrets.token_hex", drawn)
    repository = RunRepository(MemoryStore(), clock=lambda: 1_000_000_000.0)
    first = repository.create(a_spec(tmp_path, seed=1))
    second = repository.create(a_spec(tmp_path, seed=2))
    assert first.id == f"small-20010909-014640-{'aa' * 16}"
    assert second.id == f"small-20010909-014640-{'bb' * 16}"
    assert (repository.record(first.id).spec.seed, repository.record(second.id).spec.seed) == (1, 2)


def test_a_request_that_is_tried_again_is_dated_when_it_succeeds_and_goes_before_nobody(tmp_path: Path) -> None:
    """It came first an hour ago and got a 5xx; another run was made and began meanwhile."""
    now_s = [1_000_000.0]
    repository = RunRepository(MemoryStore(), clock=lambda: now_s[0])
    identity = RequestIdentity("5f" * 32, at_s=now_s[0])
    now_s[0] += 3600.0
    other = repository.create(a_spec(tmp_path))
    late = repository.create(a_spec(tmp_path), identity)
    assert late.created_at > other.created_at
    assert state(repository, other.id) == "running"
    assert state(repository, late.id) == "queued"
    assert repository.create(a_spec(tmp_path), identity) == late


def test_a_clock_that_jumps_ahead_and_back_changes_no_order(tmp_path: Path) -> None:
    """Ten hours ahead one run is made and begins; what is made when the clock is right again comes behind it."""
    now_s = [1_000_000.0]
    repository = RunRepository(MemoryStore(), clock=lambda: now_s[0])
    made: list[str] = []
    for jump_s in (0.0, 36_000.0, -36_000.0, 0.0):
        now_s[0] += jump_s
        made.append(repository.create(a_spec(tmp_path)).id)
    listed = [view.id for view in RunRepository(repository.store).page(None, 10).runs]
    assert listed == made[::-1]
