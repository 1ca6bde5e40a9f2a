"""Names and examples of the judging routes for the API's description; `**` of them goes to `add_api_route`."""

from typing import Any

from shared.contracts.judging import JudgeIdentity, JudgmentRequest, JudgmentResponse, JudgmentResult
from shared.runtime.openapi import examples

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
