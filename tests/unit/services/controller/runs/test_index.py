"""Ended runs are remembered, whoever resumes them is noticed, and a page of runs follows the other."""

from pathlib import Path

import pytest

from services.controller.runs.repository import RunRepository, UnknownRunError
from shared.contracts.records import Intent
from shared.contracts.rest.runs import RunRecord
from shared.store.artifacts import layout
from shared.store.artifacts.store import create_model
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.counted_store import CountedStore
from tests.support.specs import a_spec

CANCEL, FAILED, RESUME = Intent(action="cancel"), Intent(action="failed", reason="r"), Intent(action="resume")
NUM_ENDED = 200


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue(lambda: 0.0, lease_s=30.0)


@pytest.fixture
def store(tmp_path: Path) -> CountedStore:
    """200 runs that failed, and one that goes on; each created a second after the other."""
    store = CountedStore()
    spec = a_spec(tmp_path)
    for number in range(NUM_ENDED + 1):
        run = name(number)
        created_at = f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}+00:00"
        record = RunRecord(id=run, spec=spec, created_at=created_at, code_revision="0", num_prompts=1, skipped=[])
        create_model(store, layout.run_record(run), record)
        if number < NUM_ENDED:
            create_model(store, layout.intent(run, 1), FAILED)
    return store


def name(number: int) -> str:
    """Ids do not sort as the runs were created."""
    return f"run-{999 - number}"


def active(repository: RunRepository) -> str | None:
    record = repository.active()
    return None if record is None else record.id


def test_an_ended_run_is_not_read_again(store: CountedStore) -> None:
    repository = RunRepository(store)
    assert active(repository) == name(NUM_ENDED)
    store.asked.clear()
    for _ in range(10):
        assert active(repository) == name(NUM_ENDED)
    ended = {layout.run_record(name(number)) for number in range(NUM_ENDED)}
    ended |= {layout.intent(name(number), 1) for number in range(NUM_ENDED)}
    assert not ended & store.asked.keys()


def test_a_tick_looks_at_a_bounded_number_of_ended_runs(store: CountedStore) -> None:
    """At the folders of 64 runs' intents, whatever their number, and at all of them in turn: 4 ticks reach 200."""
    repository = RunRepository(store)
    repository.active()
    store.asked.clear()
    repository.active()
    folders = {layout.intents(name(number)) for number in range(NUM_ENDED)}
    assert len(folders & store.asked.keys()) == 64
    for _ in range(3):
        repository.active()
    assert folders <= store.asked.keys()


def test_a_run_that_this_process_resumes_is_active_at_once(store: CountedStore, queue: MemoryQueue) -> None:
    repository = RunRepository(store)
    repository.active()
    repository.change(queue, name(150), RESUME)
    assert active(repository) == name(150)
    repository.change(queue, name(150), CANCEL)
    assert active(repository) == name(NUM_ENDED)


def test_a_run_that_another_process_resumes_is_active_within_four_ticks(
    store: CountedStore, queue: MemoryQueue
) -> None:
    repository, elsewhere = RunRepository(store), RunRepository(store)
    repository.active()
    elsewhere.change(queue, name(0), RESUME)
    assert name(0) in [active(repository) for _ in range(4)]


def test_a_new_run_is_noticed_and_one_that_is_gone_forgotten(store: CountedStore, tmp_path: Path) -> None:
    repository = RunRepository(store)
    repository.active()
    created = repository.create(a_spec(tmp_path)).id
    assert repository.page(None, 1).runs[0].id == created
    for key in [key for key in store.objects if key.startswith(layout.run(name(NUM_ENDED)))]:
        del store.objects[key]
    assert active(repository) == created


def test_pages_hold_every_run_once_newest_first(store: CountedStore) -> None:
    """201 runs in pages of 50: four full ones and one of a single run."""
    repository = RunRepository(store)
    sizes, seen, before = list[int](), list[str](), None
    while not sizes or before is not None:
        page = repository.page(before, 50)
        sizes.append(len(page.runs))
        seen += [view.id for view in page.runs]
        before = page.next
    assert sizes == [50, 50, 50, 50, 1]
    assert seen == [name(number) for number in range(NUM_ENDED, -1, -1)]
    with pytest.raises(UnknownRunError):
        repository.page("nobody", 50)
