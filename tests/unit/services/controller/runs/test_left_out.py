"""A run says what it left out when its rows were read, and what it left out since."""

from pathlib import Path

from services.controller.runs.repository import RunRepository
from shared.contracts.records import Rollout, Skipped
from shared.store.artifacts import layout
from shared.store.artifacts.memory import MemoryStore
from shared.store.artifacts.tables import create_table
from tests.support.specs import a_spec

OVER_LONG = "over-long: 90 tokens, limit 64"


def test_a_prompt_that_every_step_leaves_out_counts_once(tmp_path: Path) -> None:
    """p1 is skipped in two iterations, p2 in the second, p3 by two evaluations: three prompts."""
    store = MemoryStore()
    repository = RunRepository(store)
    record = repository.create(a_spec(tmp_path))
    assert repository.detail(record).num_without_responses == 0
    steps = {
        layout.half_step(record.id, 1, 1): ["p1"],
        layout.half_step(record.id, 2, 1): ["p1", "p2"],
        layout.evaluation(record.id, 0): ["p3"],
        layout.evaluation(record.id, 1): ["p3"],
    }
    for step, prompts in steps.items():
        skipped = [Skipped(id=prompt, reason=OVER_LONG) for prompt in prompts]
        create_table(store, layout.rollouts(step, 0), Rollout, [], skipped)
    assert repository.detail(record).num_without_responses == 3


def test_rollouts_that_cannot_be_read_leave_the_number_unknown(tmp_path: Path) -> None:
    store = MemoryStore()
    repository = RunRepository(store)
    record = repository.create(a_spec(tmp_path))
    store.create(layout.rollouts(layout.half_step(record.id, 1, 1), 0), b"no parquet")
    assert repository.detail(record).num_without_responses is None
