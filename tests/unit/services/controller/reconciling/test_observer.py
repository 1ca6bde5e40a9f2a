"""What the store holds of a run's comparisons."""

from services.controller.reconciling.observer import unjudged
from shared.contracts.records import Verdict, VerdictStatus
from shared.store.artifacts import layout
from shared.store.artifacts.memory import MemoryStore
from shared.store.artifacts.tables import create_table

STEP = layout.half_step("run-1", 1, 1)


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
    assert unjudged(store, [STEP]) == (0.75, "not found")


def test_where_all_is_judged_there_is_no_reason() -> None:
    store = MemoryStore()
    assert unjudged(store, [STEP]) == (0.0, None)
    create_table(store, layout.judgments(STEP, 0), Verdict, [_verdict(0, "ok")])
    assert unjudged(store, [STEP]) == (0.0, None)
