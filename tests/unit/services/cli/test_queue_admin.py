"""Dead letters: listed with their reasons, forgotten and asked for again."""

from pathlib import Path

import pytest

from services.cli.failures import UserError
from services.cli.queue_admin import dead_letters, existing_store, queue_state, retry
from shared.contracts.records import DeadLetter
from shared.contracts.work import WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, create_model
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.cli_views import RUN, FakeController, a_run

STEPS = [layout.base(RUN), layout.half_step(RUN, 2, 1), layout.evaluation(RUN, 1)]


def _store_with_dead(tmp_path: Path) -> DirectoryStore:
    store = DirectoryStore(tmp_path / "store")
    for step in STEPS:
        create_model(store, layout.dead(step, "train", 0), DeadLetter(item=step, attempts=3, reasons=["it burned"]))
    create_model(store, layout.published(layout.base(RUN)), DeadLetter(item="other", attempts=0, reasons=[]))
    return store


def test_dead_letters_of_every_step_are_found(tmp_path: Path) -> None:
    store = _store_with_dead(tmp_path)
    found = dead_letters(store)
    assert sorted(item.letter.item for item in found) == sorted(STEPS)
    assert {item.run for item in found} == {RUN}
    assert dead_letters(store, "another-run") == []


def test_a_retry_forgets_the_dead_letters_of_a_failed_run_and_resumes_it(tmp_path: Path) -> None:
    store = _store_with_dead(tmp_path)
    controller = FakeController(
        {
            f"GET /v1/runs/{RUN}": [a_run(tmp_path, state="failed")],
            f"POST /v1/runs/{RUN}:resume": [a_run(tmp_path, state="running")],
        }
    )
    view, forgotten = retry(store, controller.api(), RUN)
    assert (view.state, len(forgotten)) == ("running", 3)
    assert dead_letters(store) == []
    assert store.exists(layout.published(layout.base(RUN)))
    assert [request.method for request in controller.asked] == ["GET", "POST"]


def test_only_a_failed_run_is_tried_again(tmp_path: Path) -> None:
    store = _store_with_dead(tmp_path)
    controller = FakeController({f"GET /v1/runs/{RUN}": [a_run(tmp_path, state="running")]})
    with pytest.raises(UserError, match="is running: only a failed run"):
        retry(store, controller.api(), RUN)
    assert len(dead_letters(store)) == 3


def test_a_run_that_failed_for_another_reason_is_sent_to_resume(tmp_path: Path) -> None:
    view = a_run(tmp_path, state="failed", reason="too few verdicts")
    controller = FakeController({f"GET /v1/runs/{RUN}": [view]})
    with pytest.raises(UserError, match=r"too few verdicts.*inpo resume"):
        retry(DirectoryStore(tmp_path / "store"), controller.api(), RUN)


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--store-dir"):
        existing_store(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_state_of_the_queue_lists_outstanding_items() -> None:
    queue = MemoryQueue(lambda: 0.0, 30.0)
    item = WorkItem(kind="judge", run=RUN, step=layout.half_step(RUN, 1, 1), shard=4)
    queue.submit(item)
    depths, items = queue_state(queue, "redis://nowhere")
    assert depths["judge"].waiting == 1
    assert [found for found, _ in items["judge"]] == [item]
