"""Names and examples of the judging routes for the API's description; `**` of them goes to `add_api_route`."""

from typing import Any

from shared.contracts.records import Message
from shared.contracts.rest.judging import (
    ComparisonCounts,
    JudgeIdentity,
    JudgmentRequest,
    JudgmentResponse,
    JudgmentResult,
    LeasedComparison,
    LeasedComparisons,
    LeaseRequest,
    VerdictReceipt,
    VerdictRequest,
)
from shared.runtime.http.openapi import examples

_REQUEST: dict[str, Any] = {
    "judge": {"kind": "rules", "entry_point": "services.oracle.rules.words:known_word_share"},
    "items": [
        {
            "id": "p-17",
            "prompt": [{"role": "user", "content": "Once upon a time"}],
            "responses": [{"id": "a", "content": " there was a happy dog."}, {"id": "b", "content": " zxq zxq."}],
            "pairs": [["a", "b"]],
        }
    ],
}
_JUDGE = JudgeIdentity(
    id="services.oracle.rules.words:known_word_share", revision="sha256:77aa", kind="rules", transitive=True
)
_RESULT = JudgmentResult(
    item_id="p-17",
    pair=("a", "b"),
    status="ok",
    p=0.9,
    p_given=0.9,
    p_swapped=0.9,
    answer=0.9,
    latency_s=0.001,
)

JUDGMENTS: dict[str, Any] = {
    "name": "create_judgments",
    "openapi_extra": examples(
        request=JudgmentRequest.model_validate(_REQUEST).model_dump(mode="json"),
        response=JudgmentResponse(judge=_JUDGE, results=[_RESULT]).model_dump(mode="json"),
    ),
}
JUDGES: dict[str, Any] = {
    "name": "list_judges",
    "openapi_extra": examples(response=[_JUDGE.model_dump(mode="json")]),
}

_ID = "5f" * 32
_LEASED = LeasedComparison(
    id=_ID,
    judge="anna",
    judge_revision="1",
    prompt=[Message(role="user", content="Once upon a time")],
    responses=(" there was a happy dog.", " zxq zxq."),
    lease="q3Zr9d1kX0aW7b2c",
    expires_at_s=1_795_272_300.0,
)
LEASE: dict[str, Any] = {
    "name": "lease_comparisons",
    "openapi_extra": examples(
        request=LeaseRequest(judge="anna", max_items=16, wait_s=20.0).model_dump(mode="json"),
        response=LeasedComparisons(comparisons=[_LEASED]).model_dump(mode="json"),
    ),
}
VERDICT: dict[str, Any] = {
    "name": "create_verdict",
    "openapi_extra": examples(
        request=VerdictRequest(lease="q3Zr9d1kX0aW7b2c", p=0.9).model_dump(mode="json"),
        response=VerdictReceipt(id=_ID, status="ok", p=0.9).model_dump(mode="json"),
    ),
}
COUNTS: dict[str, Any] = {
    "name": "count_comparisons",
    "openapi_extra": examples(
        response=ComparisonCounts(
            judge="anna", judge_revision="1", open=12, leased=16, failed=0, answered=340, silent_s=2.5
        ).model_dump(mode="json")
    ),
}
