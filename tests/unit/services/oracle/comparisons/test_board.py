"""Judges that fetch their questions: over the routes, on the twins of store and board."""

import errno
from typing import Any

import httpx
import pytest

from services.oracle.api.app import oracle_app
from services.oracle.comparisons.board import ComparisonBoard
from services.oracle.judge import Judge, JudgeUnavailableError
from services.oracle.judges.building import JudgeBuilder
from services.oracle.judges.registry import JudgeRegistry
from services.oracle.settings import OracleSettings
from shared.contracts.judges import PullJudge
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.board.memory_board import MemoryBoard, MemoryBudget
from shared.store.board.protocol import BoardCounts
from shared.store.queue.memory_queue import ManualClock
from shared.store.queue.protocol import QueueUnavailableError
from tests.support import asking
from tests.support.http_judges import ask


class LostBoard(MemoryBoard):
    """Its Redis is away."""

    def counts(self, judge: str) -> BoardCounts:
        raise QueueUnavailableError("connection refused")


class StepRunner:
    """An oracle with one pull judge, anna."""

    def __init__(self, **spec: Any) -> None:
        self.clock = ManualClock(1_000.0)
        self.store = MemoryStore()
        self.board = MemoryBoard(self.clock)
        self.spec = PullJudge.model_validate({"name": "anna", "order": "given"} | spec)
        self.use(self.board)

    def use(self, board: MemoryBoard) -> None:
        pool = JudgeRegistry(lambda spec: self.judge())
        self._app = oracle_app(OracleSettings(), pool, ComparisonBoard(self.store, board))

    def judge(self) -> Judge:
        """As an oracle that has just started builds it."""
        return JudgeBuilder(OracleSettings(), self.store, self.board, MemoryBudget(self.clock))(self.spec)

    def put(self, *pairs: tuple[str, str]) -> JudgeUnavailableError:
        with pytest.raises(JudgeUnavailableError) as caught:
            self.judge().compare(ask(*pairs))
        return caught.value

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asking.ask(self._app, method, path, base_url="http://127.0.0.1:8001", **options)

    def lease(self, **changes: Any) -> list[dict[str, Any]]:
        body = {"judge": "anna", "max_items": 10, "lease_s": 60} | changes
        response = self.send("POST", "/v1/comparisons:lease", json=body)
        assert response.status_code == 200, response.text
        return response.json()["comparisons"]

    def answer(self, question: dict[str, Any], **verdict: Any) -> httpx.Response:
        body = {"lease": question["lease"]} | verdict
        return self.send("POST", f"/v1/comparisons/{question['id']}/verdict", json=body)

    def counts(self, **query: str) -> dict[str, Any]:
        return self.send("GET", "/v1/comparisons", params={"judge": "anna"} | query).json()


def test_a_question_goes_out_as_it_is_to_be_shown_and_its_verdict_comes_back() -> None:
    bench = StepRunner()
    error = bench.put(("a", "bb"))
    assert "anna@1 has 1 comparisons" in str(error)
    (question,) = bench.lease()
    assert question["prompt"] == [{"role": "user", "content": "which?"}]
    assert question["responses"] == ["a", "bb"]
    assert (question["judge"], question["judge_revision"], question["expires_at_s"]) == ("anna", "1", 1_060.0)
    receipt = bench.answer(question, p=0.75)
    assert (receipt.status_code, receipt.json()) == (200, {"id": question["id"], "status": "ok", "p": 0.75})
    (opinion,) = bench.judge().compare(ask(("a", "bb")))
    assert opinion.probability == 0.75


def test_both_orders_are_two_questions() -> None:
    """.8 for (a, b) and .4 for (b, a): the mean of .8 and .6."""
    bench = StepRunner(order="both")
    bench.put(("a", "bb"))
    questions = {tuple(question["responses"]): question for question in bench.lease()}
    assert set(questions) == {("a", "bb"), ("bb", "a")}
    bench.answer(questions["a", "bb"], p=0.8)
    assert bench.put(("a", "bb")).progress == 1
    assert bench.lease() == []
    bench.answer(questions["bb", "a"], p=0.4)
    (opinion,) = bench.judge().compare(ask(("a", "bb")))
    assert opinion.probability == pytest.approx(0.7)


def test_a_verdict_is_durable_before_it_is_acknowledged_and_survives_the_loss_of_the_board() -> None:
    bench = StepRunner()
    bench.put(("a", "bb"), ("c", "dd"))
    first, second = bench.lease()
    assert bench.answer(first, p=0.9).status_code == 200
    bench.board.lose_everything()
    assert bench.answer(second, p=0.8).status_code == 200, "leased before the loss, answered after it"
    assert len(bench.judge().compare(ask(("a", "bb"), ("c", "dd")))) == 2


def test_what_was_open_when_the_board_was_lost_is_put_up_again_by_whoever_waits() -> None:
    bench = StepRunner()
    bench.put(("a", "bb"))
    bench.board.lose_everything()
    assert bench.lease() == []
    bench.put(("a", "bb"))
    assert len(bench.lease()) == 1


def test_an_answered_comparison_is_never_given_out_again_whatever_the_board_says() -> None:
    bench = StepRunner()
    bench.put(("a", "bb"))
    (question,) = bench.lease()
    bench.answer(question, p=0.9)
    bench.board.put("anna@1", [question["id"]])
    bench.put(("c", "dd"))
    assert [leased["responses"] for leased in bench.lease(max_items=1)] == [["c", "dd"]]


def test_a_late_verdict_counts_while_it_is_the_first_and_only_then() -> None:
    bench = StepRunner()
    bench.put(("a", "bb"))
    (slow,) = bench.lease()
    bench.clock.advance(61)
    (quick,) = bench.lease()
    assert (quick["id"], quick["lease"] == slow["lease"]) == (slow["id"], False)
    assert bench.answer(slow, p=0.9).status_code == 200
    conflict = bench.answer(quick, p=0.2)
    assert conflict.status_code == 409
    assert conflict.headers["content-type"] == "application/problem+json"
    assert "answered before: ok, p 0.9" in conflict.json()["detail"]
    assert bench.judge().compare(ask(("a", "bb")))[0].probability == 0.9


def test_the_same_verdict_twice_is_once() -> None:
    bench = StepRunner()
    bench.put(("a", "bb"))
    (question,) = bench.lease()
    assert [bench.answer(question, p=0.9).status_code for _ in range(3)] == [200, 200, 200]
    assert bench.counts()["answered"] == 1


@pytest.mark.parametrize(
    ("verdict", "status", "probability"),
    [
        ({"p": 0.5}, "tie", 0.5),
        ({"status": "tie"}, "tie", 0.5),
        ({"status": "abstain", "reason": "both are empty"}, "abstain", None),
        ({"p": 0}, "ok", 0.0),
    ],
)
def test_statuses_say_what_the_judge_said(verdict: dict[str, Any], status: str, probability: float | None) -> None:
    bench = StepRunner()
    bench.put(("a", "bb"))
    (question,) = bench.lease()
    assert bench.answer(question, **verdict).json()["status"] == status
    (opinion,) = bench.judge().compare(ask(("a", "bb")))
    assert (opinion.status, opinion.probability) == (status, probability)


def test_an_error_fails_this_comparison_once_and_is_asked_again_by_the_next_try() -> None:
    bench = StepRunner()
    bench.put(("a", "bb"), ("c", "dd"))
    first, second = bench.lease()
    assert bench.answer(first, status="error", reason="my screen is broken").status_code == 200
    assert bench.answer(first, status="error").status_code == 409, "the lease is over"
    bench.put(("a", "bb"), ("c", "dd"))
    bench.answer(second, p=0.9)
    opinions = bench.judge().compare(ask(("a", "bb"), ("c", "dd")))
    assert {opinion.status for opinion in opinions} == {"ok", "error"}
    assert "my screen is broken" in {opinion.error for opinion in opinions}
    bench.put(("a", "bb"), ("c", "dd"))
    assert [question["id"] for question in bench.lease()] == [first["id"]]
    assert bench.answer(second, status="error").status_code == 409, "it is answered"


def test_what_nobody_asked_is_unknown_and_wrong_verdicts_name_the_field() -> None:
    bench = StepRunner()
    bench.put(("a", "bb"))
    (question,) = bench.lease()
    assert bench.answer(question | {"id": "0" * 64}, p=0.5).status_code == 404
    numbers: list[dict[str, Any]] = [{"p": 1.5}, {"p": "0.9"}, {"p": True}, {"p": -0.1}]
    for wrong in (*numbers, {"status": "ok"}, {"status": "tie", "p": 0.9}, {"winner": "a", "p": 1}):
        assert bench.answer(question, **wrong).status_code == 422, wrong
    assert bench.answer(question, status="abstain", p=0.5).status_code == 422
    assert bench.answer(question | {"id": "../../etc/passwd"}, p=0.5).status_code in {404, 422}
    assert bench.send("POST", "/v1/comparisons:lease", json={"judge": "a/b"}).status_code == 422
    assert bench.counts()["answered"] == 0


def test_another_revision_is_another_judge() -> None:
    bench = StepRunner(revision="2")
    bench.put(("a", "bb"))
    assert bench.lease() == []
    assert len(bench.lease(judge_revision="2")) == 1
    assert bench.counts(judge_revision="2")["leased"] == 1
    assert bench.counts()["leased"] == 0


def test_waiting_for_a_comparison_ends_with_the_first_one() -> None:
    bench = StepRunner()
    assert bench.lease(wait_s=0.05) == []
    bench.put(("a", "bb"))
    assert len(bench.lease(wait_s=30)) == 1


def test_counts_say_what_is_open_and_how_long_the_judge_has_been_silent() -> None:
    bench = StepRunner()
    assert bench.counts() | {"silent_s": None} == bench.counts()
    bench.put(("a", "bb"), ("c", "dd"))
    bench.lease(max_items=1)
    bench.clock.advance(5)
    counts = bench.counts()
    assert (counts["open"], counts["leased"], counts["answered"], counts["silent_s"]) == (1, 1, 0, 5.0)
    assert bench.put(("a", "bb")).silent_s == 5.0


def test_a_lost_redis_is_a_503_that_may_be_tried_again() -> None:
    bench = StepRunner()
    bench.use(LostBoard(bench.clock))
    response = bench.send("GET", "/v1/comparisons", params={"judge": "anna"})
    assert (response.status_code, response.json()["retryable"]) == (503, True)


def test_a_full_disk_takes_no_verdict_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = StepRunner()
    bench.put(("a", "bb"))
    (question,) = bench.lease()

    def full(key: str, data: bytes) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(bench.store, "create", full)
        response = bench.answer(question, p=0.9)
    assert (response.status_code, response.json()["retryable"]) == (507, True)
    assert bench.answer(question, p=0.9).status_code == 200
