"""Judges behind URLs: whatever they do, no number is made of it that they did not give."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter
from structlog.testing import capture_logs

from services.oracle.api.app import oracle_app
from services.oracle.judge import (
    MAX_REASON,
    JudgeBuildError,
    JudgeChangedError,
    JudgeRefusedError,
    JudgeUnavailableError,
    Opinion,
)
from services.oracle.judges.building import JudgeBuilder
from services.oracle.judges.http import client
from services.oracle.judges.registry import JudgeRegistry
from services.oracle.settings import OracleSettings
from services.oracle.shards.questions import Asked, StepOracle
from shared.contracts.judges import JudgeSpec
from shared.contracts.records import Message, Verdict
from shared.inpo.selection import Question
from shared.runtime.key_files import write_private
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.tables import decode, encode
from shared.store.board.memory_board import MemoryBoard, MemoryBudget
from shared.store.queue.memory_queue import ManualClock
from tests.support.http_judges import IDENTITY, ScriptedJudge, ask, honest, http_judge, results
from tests.support.sampling_plans import ORACLE


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.001)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def answering(**changes: Any) -> Any:
    def answer(request: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, json={"judge": IDENTITY, "results": results(request, **changes)})

    return answer


def statuses(opinions: list[Opinion]) -> list[str]:
    return [opinion.status for opinion in opinions]


def test_a_judge_that_answers_one_order_is_asked_both_and_averaged(store: MemoryStore) -> None:
    """It answers .8 for whatever stands first: P(given) = .8, P(swapped, turned back) = .2, mean 1/2."""
    scripted = ScriptedJudge(answering(p=0.8), answering(p=0.8))
    (opinion,) = http_judge(scripted, store, order="both").compare(ask(("aa", "b")))
    assert (opinion.probability_given, opinion.probability_swapped) == (0.8, pytest.approx(0.2))
    assert opinion.probability == pytest.approx(0.5)
    assert scripted.asked == [("aa", "b"), ("b", "aa")]
    assert {request["order"] for request in scripted.requests} == {"given"}


def test_a_judge_that_averages_by_itself_is_asked_once_and_its_position_bias_is_kept(store: MemoryStore) -> None:
    identity = IDENTITY | {"both_orders": True}

    def both(request: dict[str, Any]) -> httpx.Response:
        answers = results(request, p=0.6, p_given=0.8, p_swapped=0.4)
        return httpx.Response(200, json={"judge": identity, "results": answers})

    scripted = ScriptedJudge(both, identity=both)
    (opinion,) = http_judge(scripted, store, order="both").compare(ask(("aa", "b")))
    assert (opinion.probability_given, opinion.probability_swapped) == (0.8, 0.4)
    assert opinion.probability == pytest.approx(0.6)
    assert [request["order"] for request in scripted.requests] == ["both"]


def test_the_given_order_alone_is_asked_where_the_specification_says_so(store: MemoryStore) -> None:
    scripted = ScriptedJudge()
    opinions = http_judge(scripted, store, order="given").compare(ask(("a", "bb"), ("cc", "d"), ("e", "f")))
    assert [opinion.probability for opinion in opinions] == [0.9, 0.1, 0.5]
    assert statuses(opinions) == ["ok", "ok", "tie"]
    assert len(scripted.asked) == 3


def test_requests_are_no_larger_than_max_batch_and_answers_come_in_the_order_of_asking(store: MemoryStore) -> None:
    pairs = [("x" * (number % 3), "x") for number in range(10)]
    scripted = ScriptedJudge()
    opinions = http_judge(scripted, store, max_batch=4).compare(ask(*pairs))
    assert [opinion.probability for opinion in opinions] == [[0.9, 0.5, 0.1][number % 3] for number in range(10)]
    assert sum(len(request["items"]) for request in scripted.requests) == 3, "equal content is one comparison"


def test_what_the_request_says_of_judge_and_revision_is_what_the_specification_says(store: MemoryStore) -> None:
    nested = {"kind": "rules", "entry_point": "my:rule"}
    scripted = ScriptedJudge()
    http_judge(scripted, store, judge=nested).compare(ask(("a", "b")))
    assert scripted.requests[0]["judge"] == nested
    assert scripted.requests[0]["judge_revision"] == "1"
    with pytest.raises(JudgeBuildError, match="judge_revision: 2 is asked for, the judge is at 1"):
        http_judge(ScriptedJudge(), store, judge_revision="2")


def html(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, html="<html><body>Sign in</body></html>")


def huge(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, content=b'{"judge": "' + b"x" * 10_000_000 + b'"}')


def compressed(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, content=b"\x1f\x8b", headers={"content-encoding": "gzip"})


def deep(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, content=b"[" * 100_000)


def latin(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, content=b'{"judge": "\xff"}')


def nobody(request: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"results": results(request)})


def twice(request: dict[str, Any]) -> httpx.Response:
    (result,) = results(request)
    text = json.dumps({"judge": IDENTITY, "results": [result]})
    return httpx.Response(200, content=text.replace('"p": ', '"p": 0.1, "p": '))


def no_results(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"judge": IDENTITY, "results": {}})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (html, "not JSON"),
        (huge, "larger than"),
        (compressed, "compressed"),
        (deep, "not JSON"),
        (latin, "not JSON"),
        (nobody, "does not say who it is"),
        (twice, "the key 'p' is there twice"),
        (no_results, "no list `results`"),
        (answering(p=2.0), "p is 2.0, which is not a probability"),
        (answering(p=-0.1), "not a probability"),
        (answering(p="0.7"), "p: Input should be a valid number"),
        (answering(p=True), "p: Input should be a valid number"),
        (answering(p=None), "status ok needs p"),
        (answering(status="tie", p=0.9), "a tie with p 0.9"),
        (answering(status="abstain", p=0.9), "an abstention has no p"),
        (answering(status="certainly"), "status"),
        (answering(pair=["b", "a"]), "asked was a against b"),
        (answering(p=0.9, p_given=0.2), "p_given and p_swapped make it 0.2"),
        (answering(status="error", p=None, error="my model is gone"), "the judge failed: my model is gone"),
        (answering(item_id="another"), "no result for this comparison"),
        (answering(item_id=7), "no result for this comparison"),
    ],
)
def test_an_answer_that_cannot_be_relied_on_is_a_failure_and_is_not_kept(
    store: MemoryStore, answer: Any, reason: str
) -> None:
    judge = http_judge(ScriptedJudge(answer), store)
    (opinion,) = judge.compare(ask(("a", "bb")))
    assert (opinion.status, opinion.probability) == ("error", None)
    assert reason in (opinion.error or "")
    assert store.objects == {}
    assert statuses(judge.compare(ask(("a", "bb")))) == ["ok"], "asked again, the judge answers"


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_json_does_not_have_fail_their_own_comparison_only(store: MemoryStore, number: float) -> None:
    def answer(request: dict[str, Any]) -> httpx.Response:
        rows = results(request)
        rows[1]["p"] = number
        return httpx.Response(200, content=json.dumps({"judge": IDENTITY, "results": rows}))

    opinions = http_judge(ScriptedJudge(answer), store).compare(ask(("a", "bb"), ("aa", "b"), ("a", "b")))
    assert statuses(opinions) == ["ok", "error", "tie"]


def test_missing_doubled_and_unasked_results_fail_what_they_concern_and_nothing_else(store: MemoryStore) -> None:
    """Of four: the first twice, the second missing, a stranger's, the others in another order."""

    def answer(request: dict[str, Any]) -> httpx.Response:
        one, _, three, four = results(request)
        stranger = one | {"item_id": "stranger"}
        return httpx.Response(200, json={"judge": IDENTITY, "results": [four, one, stranger, three, one, "text", None]})

    opinions = http_judge(ScriptedJudge(answer), store).compare(ask(("a", "bb"), ("a", "cc"), ("a", "dd"), ("a", "ee")))
    assert statuses(opinions) == ["error", "error", "ok", "ok"]
    assert [opinion.error for opinion in opinions[:2]] == [
        "the judge answered this comparison twice",
        "the judge's answer has no result for this comparison",
    ]


def test_an_abstention_is_kept_like_an_answer(store: MemoryStore) -> None:
    scripted = ScriptedJudge(answering(status="abstain", p=None, error="both are empty"))
    judge = http_judge(scripted, store)
    for _ in range(2):
        (opinion,) = judge.compare(ask(("a", "bb")))
        assert (opinion.status, opinion.error) == ("abstain", "both are empty")
    assert len(scripted.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408, 425])
def test_what_passes_is_retried_until_it_has_passed(store: MemoryStore, status: int) -> None:
    scripted = ScriptedJudge(httpx.Response(status), httpx.Response(status))
    assert statuses(http_judge(scripted, store).compare(ask(("a", "bb")))) == ["ok"]
    assert len(scripted.requests) == 3


@pytest.mark.parametrize(
    "fault", [httpx.Response(503), httpx.Response(429), httpx.Response(502), httpx.ConnectError("refused")]
)
def test_a_judge_that_cannot_be_asked_is_unavailable_and_no_comparison_fails(store: MemoryStore, fault: Any) -> None:
    scripted = ScriptedJudge(*[fault] * client.MAX_TRIES)
    judge = http_judge(scripted, store)
    with pytest.raises(JudgeUnavailableError):
        judge.compare(ask(("a", "bb")))
    assert statuses(judge.compare(ask(("a", "bb")))) == ["ok"]


def test_retry_after_is_a_lower_bound_of_the_pause_and_beyond_the_deadline_an_outage(store: MemoryStore) -> None:
    """The deadline is one second: a judge that wants two is not asked again, and its wish is passed on."""
    scripted = ScriptedJudge(httpx.Response(429, headers={"retry-after": "2"}))
    with pytest.raises(JudgeUnavailableError) as caught:
        http_judge(scripted, store, deadline_s=1.0).compare(ask(("a", "bb")))
    assert caught.value.retry_after_s == 2.0
    assert len(scripted.requests) == 1


def test_a_date_in_retry_after_is_understood_and_nonsense_is_not_a_wish(store: MemoryStore) -> None:
    dated = ScriptedJudge(httpx.Response(503, headers={"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}))
    with pytest.raises(JudgeUnavailableError) as caught:
        http_judge(dated, store).compare(ask(("a", "bb")))
    assert caught.value.retry_after_s == 3600.0, "an hour at most"
    nonsense = ScriptedJudge(httpx.Response(503, headers={"retry-after": "soon"}))
    assert statuses(http_judge(nonsense, store).compare(ask(("a", "bb")))) == ["ok"]


def test_a_judge_that_is_there_and_fails_on_one_comparison_fails_it_alone(store: MemoryStore) -> None:
    """A 500 for whatever request holds `bad`: eight comparisons are halved until only that one is left."""
    judge = ScriptedJudge()

    async def answer(request: httpx.Request) -> httpx.Response:
        if b'"bad"' in request.content:
            return httpx.Response(500)
        return await judge(request)

    pairs = [("x" * number, "xx") for number in range(7)]
    opinions = http_judge(answer, store).compare(ask(*pairs, ("bad", "x")))
    assert statuses(opinions[:7]) == ["ok", "ok", "tie", "ok", "ok", "ok", "ok"]
    assert statuses(opinions[7:]) == ["error"]
    assert "500" in (opinions[7].error or "")


def test_a_judge_that_breaks_off_and_is_not_there_any_more_is_unavailable(store: MemoryStore) -> None:
    broken = [httpx.RemoteProtocolError("the server hung up")] * client.MAX_TRIES
    gone = False

    def identity(request: dict[str, Any]) -> httpx.Response:
        if gone:
            raise httpx.ConnectError("refused")
        return honest(request)

    judge = http_judge(ScriptedJudge(*broken, identity=identity), store)
    gone = True
    with pytest.raises(JudgeUnavailableError):
        judge.compare(ask(("a", "bb")))


def test_a_slow_trickle_ends_at_the_timeout_however_regular_it_is(store: MemoryStore) -> None:
    """A byte every 20 ms, each well within any pause between bytes, is too slow for 0.1 s in all."""

    async def trickle() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.02)
            yield b" "

    def slow(_: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, content=trickle())

    judge = http_judge(ScriptedJudge(*[slow] * client.MAX_TRIES), store, timeout_s=0.1)
    (opinion,) = judge.compare(ask(("a", "bb")))
    assert opinion.status == "error"
    assert "no answer within" in (opinion.error or "")


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 405, 204])
def test_what_only_a_person_can_mend_is_neither_retried_nor_followed(store: MemoryStore, status: int) -> None:
    scripted = ScriptedJudge(httpx.Response(status, headers={"location": "http://169.254.169.254/"}))
    with pytest.raises(JudgeRefusedError, match=f"answers {status}"):
        http_judge(scripted, store).compare(ask(("a", "bb")))
    assert len(scripted.requests) == 1


def test_a_judge_that_is_another_one_now_is_not_listened_to(store: MemoryStore) -> None:
    def changed(request: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, json={"judge": IDENTITY | {"revision": "2"}, "results": results(request)})

    with pytest.raises(JudgeChangedError, match="shorter at 1, now shorter at 2"):
        http_judge(ScriptedJudge(changed), store).compare(ask(("a", "bb")))
    with pytest.raises(JudgeChangedError):
        http_judge(ScriptedJudge(httpx.Response(409)), store).compare(ask(("a", "bb")))
    assert store.objects == {}


def test_what_was_answered_before_an_outage_is_kept_and_counted_as_progress(store: MemoryStore) -> None:
    scripted = ScriptedJudge(honest, *[httpx.Response(503)] * client.MAX_TRIES)
    judge = http_judge(scripted, store, max_batch=2, max_concurrency=1)
    pairs = [("a" * number, "aaa") for number in range(4)]
    with pytest.raises(JudgeUnavailableError) as caught:
        judge.compare(ask(*pairs))
    assert caught.value.progress == 2
    assert statuses(judge.compare(ask(*pairs))) == ["ok", "ok", "ok", "tie"]
    answered = scripted.asked[:2]
    assert [pair for pair in scripted.asked[2:] if pair in answered] == []


def test_the_budget_is_asked_before_every_request_and_spent_it_is_an_outage(store: MemoryStore) -> None:
    """One a minute: who the judge is takes it, the comparison finds a minute to wait and has a second."""
    budget = MemoryBudget(ManualClock())
    judge = http_judge(ScriptedJudge(), store, access={"budget": budget}, max_requests_per_minute=1.0, deadline_s=1.0)
    with pytest.raises(JudgeUnavailableError, match="budget") as caught:
        judge.compare(ask(("a", "bb")))
    assert caught.value.retry_after_s == pytest.approx(60.0)


def test_the_wish_of_one_process_to_wait_holds_for_all_that_share_the_budget(store: MemoryStore) -> None:
    budget = MemoryBudget(ManualClock())
    access = {"budget": budget}
    busy = ScriptedJudge(httpx.Response(429, headers={"retry-after": "30"}))
    options: dict[str, Any] = {"max_requests_per_minute": 6e4, "deadline_s": 1.0}
    another = ScriptedJudge()
    waiting = http_judge(another, store, access=access, **options)
    with pytest.raises(JudgeUnavailableError):
        http_judge(busy, store, access=access, **options).compare(ask(("a", "bb")))
    with pytest.raises(JudgeUnavailableError, match="budget"):
        waiting.compare(ask(("a", "bb")))
    assert another.requests == []


def test_the_key_is_sent_and_never_told(store: MemoryStore, tmp_path: Path) -> None:
    file = tmp_path / "key"
    write_private(file, "s3cret\n")
    scripted = ScriptedJudge(httpx.Response(401))
    with capture_logs() as logs, pytest.raises(JudgeRefusedError, match="INPO_ORACLE_HTTP_KEY_FILES") as caught:
        http_judge(scripted, store, access={"key_files": {"http://127.0.0.1:9000": file}}).compare(ask(("a", "bb")))
    assert scripted.headers[-1]["authorization"] == "Bearer s3cret"
    assert "s3cret" not in f"{logs} {caught.value!r} {caught.value}"


def test_a_url_that_is_not_allowed_is_never_called(store: MemoryStore) -> None:
    scripted = ScriptedJudge()
    with pytest.raises(JudgeBuildError, match="INPO_ORACLE_HTTP_JUDGES"):
        http_judge(scripted, store, url="http://169.254.169.254/v1/judgments")
    assert scripted.num_identity == 0


def test_a_url_where_no_judge_is_says_what_was_found_there(store: MemoryStore) -> None:
    for answer, reason in ((html, "not JSON"), (lambda _: httpx.Response(422), "answers 422")):  # pyright: ignore
        with pytest.raises(JudgeBuildError, match=reason):
            http_judge(ScriptedJudge(identity=answer), store)  # pyright: ignore
    with pytest.raises(JudgeUnavailableError):
        http_judge(ScriptedJudge(identity=lambda _: httpx.Response(503)), store, deadline_s=0.1)


def test_another_oracle_is_such_a_judge(store: MemoryStore) -> None:
    """Our own API, asked for a rule of its own, answers in both orders under the rule's identity."""
    rule = {"kind": "rules", "entry_point": "tests.support.rules:longer_is_better"}
    settings = OracleSettings(oracle_entry_points=("tests.support.",))
    clock = ManualClock()
    pool = JudgeRegistry(JudgeBuilder(settings, MemoryStore(), MemoryBoard(clock), MemoryBudget(clock)))
    transport = httpx.ASGITransport(app=oracle_app(settings, pool))
    judge = http_judge(ScriptedJudge(), store, access={"transport": transport}, judge=rule, order="both")
    identity = judge.identity()
    assert (identity.id, identity.kind, identity.both_orders) == (rule["entry_point"], "http", True)
    opinions = judge.compare(ask(("aaa", "b"), ("b", "aaa"), ("b", "b")))
    assert [opinion.probability for opinion in opinions] == pytest.approx([0.9, 0.1, 0.5])
    assert opinions[0].probability_swapped == pytest.approx(0.9)


@pytest.mark.parametrize("status", ["error", "abstain"])
def test_a_judges_words_are_only_words_in_the_artifact(store: MemoryStore, status: str) -> None:
    """Half a surrogate pair is no UTF-8: as it was sent, it would fail the shard, and so the run."""
    words = "\ud800half \x1b[2J\x00 \U0001f600 ok" + "x" * 5000
    body = json.dumps({"judge": IDENTITY, "results": [{"item_id": "q", "pair": ["a", "b"], "status": status}]})

    def answer(request: dict[str, Any]) -> httpx.Response:
        sent = json.loads(body)
        sent["results"][0] |= {"item_id": request["items"][0]["id"], "error": words}
        return httpx.Response(200, content=json.dumps(sent))

    step = StepOracle(http_judge(ScriptedJudge(answer), store), ORACLE, 0, "step", tolerant=True)
    prompt = [Message(role="user", content="?")]
    step.ask([Asked("p", prompt, Question(0, 1, 0), "a", "bb")])
    (verdict,) = decode(Verdict, encode(Verdict, step.verdicts))
    assert verdict.status == status
    assert "\ufffdhalf \ufffd[2J\ufffd \U0001f600 ok" in (verdict.error or "")
    assert len(verdict.error or "") <= MAX_REASON


def test_a_judge_whose_name_is_no_text_is_not_known_by_it(store: MemoryStore) -> None:
    for name in ("\ud800", "a\nb", "\x1b[31m"):

        def unnamed(_: dict[str, Any], name: str = name) -> httpx.Response:
            return httpx.Response(200, content=json.dumps({"judge": IDENTITY | {"id": name}, "results": []}))

        with pytest.raises(JudgeBuildError, match="does not say who it is"):
            http_judge(ScriptedJudge(identity=unnamed), store)


@pytest.mark.parametrize(("body", "shown"), [
    (b'{"error": {"message": "the key is s3cret"}}', "without a title or a detail"),
    (b"s3cret", "without a title or a detail"),
    (b'["s3cret"]', "without a title or a detail"),
    (b'{"title": "No such judge", "detail": "\\u001b there are a, b", "s3cret": 1}', "No such judge: \ufffd there are"),
])  # fmt: skip
def test_of_a_refusal_only_what_a_problem_says_is_shown(store: MemoryStore, body: bytes, shown: str) -> None:
    """Whoever names a URL must not read what another server answers there."""
    with pytest.raises(JudgeRefusedError) as raised:
        http_judge(ScriptedJudge(identity=lambda _: httpx.Response(404, content=body)), store)
    assert shown in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("kind", ["reward_model", "pair_model"])
def test_a_model_out_of_reach_is_refused_before_anything_of_it_is_read(
    kind: str, store: MemoryStore, tmp_path: Path
) -> None:
    clock = ManualClock()
    settings = OracleSettings(allowed_paths=(tmp_path / "models",), allow_hub=False)
    build = JudgeBuilder(settings, store, MemoryBoard(clock), MemoryBudget(clock))
    spec: TypeAdapter[JudgeSpec] = TypeAdapter(JudgeSpec)
    for path, setting in ((str(tmp_path), "INPO_ALLOWED_PATHS"), ("org/name", "INPO_ALLOW_HUB")):
        with pytest.raises(JudgeBuildError, match=setting) as caught:
            build(spec.validate_python({"kind": kind, "path": path}))
        assert caught.value.field == "path"
