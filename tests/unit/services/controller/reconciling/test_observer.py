"""What a look remembers: it costs less, and never sees anything else than a look that remembers nothing."""

from pathlib import Path

import pytest

from services.controller.reconciling.observer import Observer, unjudged
from shared.contracts.records import Intent, PreferencePair, Rollout, Verdict, VerdictStatus
from shared.contracts.spec import RunSpec
from shared.contracts.weights import WeightVersion
from shared.contracts.work import item_id
from shared.store.artifacts import layout
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.store import create_model
from shared.store.artifacts.tables import create_table
from tests.support.counted_store import CountedStore
from tests.support.sampling_plans import put_half_step
from tests.support.specs import a_spec

RUN = "run"
STEP = layout.half_step(RUN, 1, 1)


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    return a_spec(tmp_path, evaluation={"num_prompts": 0})


@pytest.fixture
def store() -> CountedStore:
    """With a half-step of two shards, one of which has its rollouts."""
    store = CountedStore()
    version = WeightVersion(run=RUN, number=0, digest="d", directory="runs/run/weights/0")
    put_half_step(store, version, [[0], [1]])
    generate(store, 0)
    return store


def generate(store: CountedStore, shard: int) -> None:
    create_table(store, layout.rollouts(STEP, shard), Rollout, [])


def judge(store: CountedStore, shard: int, answer: float | None) -> None:
    verdict = Verdict(
        prompt_id="p",
        a=0,
        b=1,
        draw=0,
        status="error" if answer is None else "ok",
        probability=answer,
        answer=answer,
        judge="j",
        judge_revision="1",
        latency_s=0.0,
    )
    create_table(store, layout.judgments(STEP, shard), Verdict, [verdict])
    create_table(store, layout.pairs(STEP, shard), PreferencePair, [])


def test_a_plan_is_read_once_however_many_looks(store: CountedStore, spec: RunSpec) -> None:
    observer = Observer(store)
    for _ in range(5):
        step = observer.observe(RUN, spec).half_step
        assert (step.num_shards, step.rollouts) == (2, {0})
    assert store.asked[layout.plan(STEP)] == 1


def test_a_folder_is_listed_until_it_is_complete(store: CountedStore, spec: RunSpec) -> None:
    """Five looks, of which the third finds the last shard: the other two need not list the folder."""
    observer = Observer(store)
    for look in range(5):
        if look == 2:
            generate(store, 1)
        assert observer.observe(RUN, spec).half_step.all_generated == (look >= 2)
    assert store.asked[f"{STEP}/rollouts"] == 3


def test_what_was_mended_by_hand_before_a_run_was_resumed_is_seen(store: CountedStore, spec: RunSpec) -> None:
    observer = Observer(store)
    generate(store, 1)
    create_model(store, layout.intent(RUN, 1), Intent(action="failed", reason="corrupt"))
    assert observer.observe(RUN, spec).half_step.all_generated
    del store.objects[layout.rollouts(STEP, 1)]
    create_model(store, layout.intent(RUN, 2), Intent(action="resume"))
    assert observer.observe(RUN, spec).half_step.rollouts == {0}


def test_a_broken_plan_is_an_error_at_every_look(store: CountedStore, spec: RunSpec) -> None:
    store.objects[layout.plan(STEP)] = b"{}"
    observer = Observer(store)
    for _ in range(2):
        with pytest.raises(ValueError, match="type"):
            observer.observe(RUN, spec)


def test_verdicts_are_counted_once_and_only_before_training(store: CountedStore, spec: RunSpec) -> None:
    """One of two verdicts has no answer: a share of 1/2. Whoever only looks, or has asked, has nothing counted."""
    observer = Observer(store)
    generate(store, 1)
    judge(store, 0, 1.0)
    judge(store, 1, None)
    asked = frozenset({item_id(STEP, "train")})
    assert [observer.observe(RUN, spec, seen).unjudged_share for seen in (None, asked)] == [0.0, 0.0]
    assert store.asked[layout.judgments(STEP, 0)] == 0
    assert [observer.observe(RUN, spec, frozenset()).unjudged_share for _ in range(3)] == [0.5] * 3
    assert store.asked[layout.judgments(STEP, 0)] == 1


def _verdict(number: int, status: VerdictStatus, error: str | None = None) -> Verdict:
    return Verdict(
        prompt_id=f"p{number}",
        a=0,
        b=1,
        draw=0,
        status=status,
        answer=1.0 if status == "ok" else None,
        judge="fake",
        judge_revision="r1",
        latency_s=0.0,
        error=error,
    )


def test_the_share_without_a_verdict_comes_with_its_commonest_reason() -> None:
    """Two shards: 1 of 2 and 2 of 2 comparisons, two of the three for one reason."""
    store = MemoryStore()
    shards = [
        [_verdict(0, "ok"), _verdict(1, "abstain", "not found")],
        [_verdict(2, "error", "HTTP 503"), _verdict(3, "abstain", "not found")],
    ]
    for number, verdicts in enumerate(shards):
        create_table(store, layout.judgments(STEP, number), Verdict, verdicts)
    assert unjudged(store, STEP) == (0.75, "not found")


def test_where_all_is_judged_there_is_no_reason() -> None:
    store = MemoryStore()
    assert unjudged(store, STEP) == (0.0, None)
    create_table(store, layout.judgments(STEP, 0), Verdict, [_verdict(0, "ok")])
    assert unjudged(store, STEP) == (0.0, None)
