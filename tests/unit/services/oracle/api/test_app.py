"""`POST /v1/judgments`: every pair answered once, failures as statuses, and nothing that crashes it."""

import asyncio
import io
import json
import tarfile
from functools import partial
from typing import Any

import httpx
import pytest

from services.oracle.api.app import oracle_app
from services.oracle.judge import build_judge
from services.oracle.judges.registry import JudgeRegistry
from services.oracle.settings import OracleSettings
from shared.contracts.judges import PullJudge
from shared.contracts.rest.judging import JudgeIdentity, JudgmentResponse
from shared.runtime.worker.watchdog import Watchdog
from tests.support.data import outside_data
from tests.support.fake_judge import FakeJudge

LONGER = {"kind": "rules", "entry_point": "tests.support.rules:longer_is_better"}
SETTINGS = OracleSettings(oracle_entry_points=("tests.support.",))


def a_request(**changes: Any) -> dict[str, Any]:
    item = {
        "id": "i1",
        "prompt": [{"role": "user", "content": "which?"}],
        "responses": [{"id": "a", "content": "long"}, {"id": "b", "content": "x"}, {"id": "c", "content": "y"}],
        "pairs": [["a", "b"], ["b", "a"], ["b", "c"]],
    }
    return {"judge": LONGER, "items": [item], **changes}


def post(body: Any = None, *, settings: OracleSettings = SETTINGS, pool: JudgeRegistry | None = None, **kw: Any) -> Any:
    app = oracle_app(settings, pool or JudgeRegistry(partial(build_judge, entry_points=["tests.support."])))

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8000"
        ) as client:
            if body is not None:
                return await client.post("/v1/judgments", json=body)
            return await client.post("/v1/judgments", **kw)

    return asyncio.run(send())


def refused(response: httpx.Response, status: int, field: str) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert field in [error["field"] for error in problem["errors"]]
    return str(problem["detail"])


def test_every_pair_is_answered_once_with_both_orders_and_the_judges_identity() -> None:
    response = JudgmentResponse.model_validate(post(a_request()).json())
    assert [result.pair for result in response.results] == [("a", "b"), ("b", "a"), ("b", "c")]
    assert [result.status for result in response.results] == ["ok", "ok", "tie"]
    assert [result.p for result in response.results] == pytest.approx([0.9, 0.1, 0.5])
    assert [result.answer for result in response.results] == [result.p for result in response.results]
    assert response.results[0].p_given == pytest.approx(response.results[0].p_swapped)
    assert response.judge.id == LONGER["entry_point"]
    assert response.judge.revision.startswith("sha256:")


def test_binary_answers_are_draws_that_the_seed_repeats() -> None:
    items = [a_request()["items"][0] | {"id": f"i{number}"} for number in range(64)]

    def answers(seed: int) -> list[float]:
        body = post(a_request(answers="binary", seed=seed, items=items)).json()
        return [result["answer"] for result in body["results"]]

    assert set(answers(1)) == {0.0, 1.0}
    assert answers(1) == answers(1) != answers(2)


def test_a_comparison_that_fails_is_a_result_without_a_number_beside_the_others() -> None:
    judge = FakeJudge(failures=1, failing=frozenset({"y"}))
    body = post(a_request(), pool=JudgeRegistry(lambda spec: judge)).json()
    assert [result["status"] for result in body["results"]] == ["ok", "ok", "error"]
    failed = body["results"][2]
    assert (failed["p"], failed["answer"], failed["error"]) == (None, None, "HTTP 503")


def test_a_pinned_revision_that_differs_is_a_conflict() -> None:
    revision = post(a_request()).json()["judge"]["revision"]
    assert post(a_request(judge_revision=revision)).status_code == 200
    conflict = post(a_request(judge_revision="sha256:other"))
    assert conflict.status_code == 409
    assert revision in conflict.json()["detail"]


def test_a_judge_that_cannot_be_built_is_refused_naming_the_field(tmp_path: Any) -> None:
    absent = {"kind": "pair_model", "path": str(tmp_path / "absent")}
    refused(post(a_request(judge=absent)), 422, "judge.path")
    unknown = LONGER | {"entry_point": "tests.support.rules:absent"}
    refused(post(a_request(judge=unknown)), 422, "judge.entry_point")
    refused(post(a_request(judge=LONGER | {"params": {"no": 1}})), 422, "judge.params")


def test_only_allowed_code_is_imported_for_a_request() -> None:
    for entry_point in ("os:system", "tests.supporters:rule", "subprocess:run"):
        detail = refused(post(a_request(judge=LONGER | {"entry_point": entry_point})), 403, "judge.entry_point")
        assert "INPO_ORACLE_ENTRY_POINTS" in detail
    assert refused(post(a_request(), settings=OracleSettings()), 403, "judge.entry_point")
    models_only = OracleSettings(oracle_api_kinds=("pair_model",))
    refused(post(a_request(), settings=models_only), 403, "judge.kind")


def test_too_many_comparisons_are_refused() -> None:
    settings = OracleSettings(oracle_entry_points=("tests.support.",), oracle_api_max_comparisons=2)
    refused(post(a_request(), settings=settings), 422, "items")


def test_a_request_without_items_asks_who_the_judge_is() -> None:
    response = JudgmentResponse.model_validate(post(a_request(items=[])).json())
    assert (response.judge.id, response.judge.both_orders, response.results) == (LONGER["entry_point"], True, [])


def test_a_loaded_judge_may_be_named_and_nothing_else_can_be_reached_by_name() -> None:
    """An external judge that a run has loaded is none of the API's business."""
    pool = JudgeRegistry(partial(build_judge, entry_points=["tests.support."]))
    refused(post(a_request(judge="tests.support.rules:longer_is_better"), pool=pool), 404, "judge")
    post(a_request(), pool=pool)
    assert post(a_request(judge="tests.support.rules:longer_is_better"), pool=pool).status_code == 200
    refused(post(a_request(judge=None), pool=pool), 422, "judge")
    outside = FakeJudge()
    outside.identity = lambda: JudgeIdentity(id="anna", revision="1", kind="pull")
    external = JudgeRegistry(lambda spec: outside)
    external.get(PullJudge(name="anna"))
    refused(post(a_request(judge="anna"), pool=external), 403, "judge")
    refused(post(a_request(judge={"kind": "http", "url": "http://127.0.0.1/"}), pool=pool), 422, "judge")


def test_the_given_order_is_answered_alone_where_it_is_asked() -> None:
    result = post(a_request(order="given")).json()["results"][0]
    assert (result["p"], result["p_given"], result["p_swapped"]) == (pytest.approx(0.9), pytest.approx(0.9), None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"order": "random"}, "order"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"seed": -1}, "seed"),
        ({"unknown": 1}, "unknown"),
        ({"judge": {"kind": "oracle of Delphi"}}, "judge"),
        ({"answers": "maybe"}, "answers"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], field: str) -> None:
    refused(post(a_request(**changes)), 422, field)


def test_pairs_must_name_two_different_responses_of_the_item() -> None:
    for pair in (["a", "z"], ["a", "a"]):
        item = a_request()["items"][0] | {"pairs": [pair]}
        assert post(a_request(items=[item])).status_code == 422


def test_no_file_of_the_json_test_suite_crashes_it() -> None:
    with tarfile.open(outside_data("adversarial/JSONTestSuite.tar.gz")) as archive:
        members = [member for member in archive.getmembers() if member.name.endswith(".json")]
        for member in members:
            content = archive.extractfile(member)
            assert isinstance(content, io.BufferedReader)
            response = post(content=content.read(), headers={"content-type": "application/json"})
            assert response.status_code in {400, 422}, member.name
    assert len(members) > 300


def test_every_naughty_string_is_judged_like_any_other() -> None:
    strings: list[str] = json.loads(outside_data("adversarial/blns.json").read_bytes())
    pool = JudgeRegistry(partial(build_judge, entry_points=["tests.support."]))
    items = [
        {
            "id": text,
            "prompt": [{"role": "user", "content": text}],
            "responses": [{"id": "a", "content": text}, {"id": "b", "content": text + "!"}],
            "pairs": [["a", "b"]],
        }
        for text in strings
    ]
    for start in range(0, len(items), 256):
        response = post(a_request(items=items[start : start + 256]), pool=pool)
        assert response.status_code == 200, response.text
        probabilities = [result["p"] for result in response.json()["results"]]
        assert probabilities == pytest.approx([0.1] * len(probabilities))


def test_a_request_has_a_deadline_that_a_rule_which_holds_the_interpreter_cannot_outlive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own for between the batches, and the oracle's for an asking that has begun."""
    timer: list[float | None] = []
    monkeypatch.setattr("services.oracle.api.app.WATCHDOG", Watchdog(timer.append))
    assert (
        post(a_request(deadline_s=30.0), settings=SETTINGS.model_copy(update={"deadline_s": 100.0})).status_code == 200
    )
    assert timer == [pytest.approx(130.0, abs=5.0), None]
