# pyarrow ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
"""A rolling upgrade in both directions: what another release wrote is left alone, what an older one wrote is read."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.contracts.plans import BasePlan, EvaluationPlan, HalfStepPlan
from shared.contracts.records import Commit, Intent, Prompt, PublishedWeights
from shared.contracts.spec import ModelSpec
from shared.store.artifacts import layout
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.runs import read_plan
from shared.store.artifacts.store import CorruptArtifactError, NewerArtifactError, create_model, read_model
from shared.store.artifacts.tables import read_table
from shared.store.artifacts.versions import VERSION

STEP = layout.base("run-1")
PLAN = {"type": "base", "run": "run-1", "model": {"path": "org/name"}}


class NewerPlan(BasePlan):
    """As a later release may have it."""

    quantised: bool = True


def put(store: MemoryStore, key: str, value: dict[str, Any]) -> None:
    store.create(key, json.dumps(value).encode())


def test_what_is_stored_says_which_release_wrote_it() -> None:
    store = MemoryStore()
    create_model(store, layout.plan(STEP), BasePlan(run="run-1", model=ModelSpec(path="org/name")))
    assert read_plan(store, STEP).written_by == VERSION


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"written_by": "9.1.0", "quantised": True}, f"was written by INPO 9.1.0, this is INPO {VERSION}"),
        ({"written_by": "9.1.0", "model": {"path": "a/b", "shards": 4}}, "not understood here: base.model.shards"),
        ({"written_by": "9.1.0", "run": None}, "was written by INPO 9.1.0"),
        ({"quantised": True}, "was written by another release"),
        ({"type": "distillation"}, "was written by another release"),
    ],
    ids=["field", "field inside", "other shape", "unsigned", "type"],
)
def test_a_plan_of_another_release_is_told_from_a_broken_one(change: dict[str, Any], reason: str) -> None:
    store = MemoryStore()
    put(store, layout.plan(STEP), PLAN | change)
    with pytest.raises(NewerArtifactError) as caught:
        read_plan(store, STEP)
    assert reason in str(caught.value)
    assert layout.plan(STEP) in str(caught.value)


@pytest.mark.parametrize("change", [{"run": None}, {"written_by": VERSION, "model": {}}, {"run": None, "new": 1}])
def test_a_broken_plan_is_broken_whatever_else_it_holds(change: dict[str, Any]) -> None:
    store = MemoryStore()
    put(store, layout.plan(STEP), PLAN | change)
    with pytest.raises(CorruptArtifactError) as caught:
        read_plan(store, STEP)
    assert not isinstance(caught.value, NewerArtifactError)


def test_the_newer_release_reads_what_it_wrote_and_what_the_older_one_wrote() -> None:
    store = MemoryStore()
    create_model(store, "newer", NewerPlan(run="run-1", model=ModelSpec(path="org/name")))
    put(store, "older", PLAN)
    assert read_model(store, "newer", NewerPlan).quantised
    assert read_model(store, "older", NewerPlan).quantised
    with pytest.raises(NewerArtifactError, match="not understood here: quantised"):
        read_model(store, "newer", BasePlan)


def test_a_table_with_a_column_that_is_new_is_another_releases() -> None:
    store, sink = MemoryStore(), io.BytesIO()
    pq.write_table(pa.table({"prompt_id": ["a"], "language": ["en"]}), sink)
    store.create("prompts", sink.getvalue())
    with pytest.raises(NewerArtifactError, match="unknown: language"):
        read_table(store, "prompts", Prompt)


VERSION_0 = {"run": "run-1", "number": 0, "half": None, "digest": "d0", "directory": "runs/run-1/weights/0"}
ORACLE: dict[str, Any] = {
    "judge": {"kind": "rules", "entry_point": "fake:judge", "params": {}},
    "answers": "probability",
    "judged_part": None,
    "max_unjudged": 0.02,
    "max_retries": 2,
    "max_outage_s": 86400.0,
}
SAMPLING = {"num_responses": 4, "max_new_tokens": 8, "temperature": 1.0, "top_p": 1.0}
HALF_STEP: dict[str, Any] = {
    "type": "half_step",
    "run": "run-1",
    "iteration": 1,
    "half": 1,
    "num_halves": 1,
    "sample_from": VERSION_0,
    "start_from": VERSION_0,
    "reference": VERSION_0,
    "anchors": [{"version": VERSION_0, "exponent": 1.0}],
    "loss": "squared",
    "scale": 0.3,
    "sampling": SAMPLING,
    "prompt_format": "auto",
    "max_prompt_tokens": 64,
    "oracle": ORACLE,
    "selection": {"method": "tournament", "num_pairs": None, "tied_final": "drop"},
    "training": {"learning_rate": 5e-7, "batch_size": 128, "micro_batch_size": 16, "num_epochs": 1},
    "shards": [{"index": 0, "prompts": [0, 1]}],
    "seed": 7,
    "planned_at_s": 0.0,
}
EVALUATION: dict[str, Any] = {
    "type": "evaluation",
    "run": "run-1",
    "version": VERSION_0,
    "reference": VERSION_0,
    "sampling": SAMPLING,
    "num_responses": 1,
    "prompt_format": "auto",
    "max_prompt_tokens": 64,
    "oracle": ORACLE,
    "shards": [{"index": 0, "prompts": [0]}],
    "seed": 7,
}


@pytest.mark.parametrize(("plan", "kind"), [(PLAN, BasePlan), (HALF_STEP, HalfStepPlan), (EVALUATION, EvaluationPlan)])
def test_a_plan_of_release_0_1_0_which_signed_nothing_is_read(plan: dict[str, Any], kind: type[object]) -> None:
    store = MemoryStore()
    put(store, layout.plan(STEP), plan)
    found = read_plan(store, STEP)
    assert isinstance(found, kind)
    assert found.written_by is None


def test_records_of_release_0_1_0_which_signed_nothing_are_read() -> None:
    store = MemoryStore()
    put(store, "weights", {"version": VERSION_0, "metrics": {"loss": 0.5}, "skipped": []})
    put(store, "intent", {"action": "pause", "reason": None, "request": None})
    put(store, "commit", {"iteration": 1, "weights": VERSION_0, "num_pairs": 3, "digests": {}, "metrics": {}})
    assert read_model(store, "weights", PublishedWeights).metrics == {"loss": 0.5}
    assert read_model(store, "intent", Intent).action == "pause"
    assert read_model(store, "commit", Commit).num_pairs == 3
