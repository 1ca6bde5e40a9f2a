"""Judges see a part of the response; what is trained on stays whole; no part is a status, never an empty text."""

import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.oracle.judges.registry import JudgeRegistry
from services.oracle.shards.judged_part import MAX_SLOW, JudgedPart, NoPartError
from services.oracle.worker import JudgeHandler
from shared.contracts.records import PreferencePair, Verdict
from shared.contracts.text_limits import MAX_MATCHED_BYTES
from shared.contracts.work import Attempt, WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore
from shared.store.artifacts.tables import read_table
from tests.support.fake_judge import FakeJudge
from tests.support.judged_steps import a_half_step, a_rollout, a_version, an_oracle, put_evaluation, put_half_step

AFTER_THINKING = r"(?s)</think>(.*)"
CATASTROPHIC = r"^(a|aa)+$"
ENDLESS = "a" * 60 + "b"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def _judged(store: DirectoryStore, responses: tuple[str, ...], pattern: str, judge: FakeJudge) -> WorkItem:
    plan = a_half_step(num_responses=len(responses), oracle=an_oracle(judged_part=pattern))
    item = put_half_step(store, plan, [a_rollout("p0", responses, a_version())])
    JudgeHandler(store, JudgeRegistry(lambda spec: judge))(item, Attempt(number=1))
    return item


def _pairs(store: DirectoryStore, item: WorkItem) -> list[PreferencePair]:
    return read_table(store, layout.pairs(item.step, 0), PreferencePair)


def _verdicts(store: DirectoryStore, item: WorkItem) -> list[Verdict]:
    return read_table(store, layout.judgments(item.step, 0), Verdict)


def test_the_judge_sees_the_part_and_the_pair_holds_the_whole_response(store: DirectoryStore) -> None:
    """The judge likes length: whole, the first response is the longer one; after its thoughts, the second."""
    long_thoughts, long_answer = "<think>at great length</think>a", "<think></think>bbbb"
    judge = FakeJudge()
    item = _judged(store, (long_thoughts, long_answer), AFTER_THINKING, judge)
    assert {text for batch in judge.batches for asked in batch for text in (asked.first, asked.second)} == {"a", "bbbb"}
    (pair,) = _pairs(store, item)
    assert (pair.chosen, pair.rejected) == (long_answer, long_thoughts)
    assert pair.chosen_ids == list(long_answer.encode())


def test_an_evaluation_cuts_both_sides(store: DirectoryStore) -> None:
    oracle, judge = an_oracle(judged_part=AFTER_THINKING), FakeJudge()
    put_evaluation(store, 0, [["<think>x</think>cc"]], oracle=oracle)
    item = put_evaluation(store, 1, [["<think>x</think>d"]], oracle=oracle)
    JudgeHandler(store, JudgeRegistry(lambda spec: judge))(item, Attempt(number=1))
    ((asked,),) = judge.batches
    assert (asked.first, asked.second) == ("d", "cc")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [("<think>never ends", "is not found in a response"), ("<think></think> \n", "finds an empty text in a response")],
)
def test_a_response_without_the_part_gets_no_verdict_and_the_judge_is_not_asked(
    store: DirectoryStore, broken: str, reason: str
) -> None:
    judge = FakeJudge()
    item = _judged(store, ("<think></think>a", broken), AFTER_THINKING, judge)
    (verdict,) = _verdicts(store, item)
    assert (verdict.status, verdict.answer, verdict.probability) == ("abstain", None, None)
    assert reason in (verdict.error or "")
    assert _pairs(store, item) == []
    assert judge.num_asked == 0


def test_one_response_without_the_part_loses_no_other_comparison(store: DirectoryStore) -> None:
    """Four responses, a tournament: the first round has two games, one of them with the broken response."""
    judge = FakeJudge()
    item = _judged(store, ("</think>a", "</think>bb", "</think>ccc", "broken"), AFTER_THINKING, judge)
    statuses = [verdict.status for verdict in _verdicts(store, item)]
    assert statuses.count("abstain") >= 1
    assert statuses.count("ok") == judge.num_asked >= 1


def test_a_catastrophic_pattern_ends_in_a_reason_within_its_limit() -> None:
    """Fibonacci's number of 60 is above 10^12 ways to read it; the search of the others is refused after a few."""
    part = JudgedPart(CATASTROPHIC, limit_s=0.05)
    started = time.monotonic()
    reasons: list[str] = []
    for number in range(100):
        with pytest.raises(NoPartError) as caught:
            part.of(ENDLESS + "b" * number)
        reasons.append(str(caught.value))
    assert time.monotonic() - started < 5.0
    assert "takes more than 0.05 s in a response: it backtracks, simplify it" in reasons[0]
    assert reasons[MAX_SLOW:] == [f"oracle.judged_part took more than 0.05 s in each of {MAX_SLOW} responses"] * (
        100 - MAX_SLOW
    )


@pytest.mark.parametrize(
    ("pattern", "response", "part"),
    [
        (None, "whole", "whole"),
        (None, "", ""),
        (r"\d+", "in 1999 and 2000", "1999"),
        (r"answer: (\w+) of (\w+)", "answer: king of hearts", "king"),
    ],
)
def test_the_part_is_group_1_or_the_whole_match(pattern: str | None, response: str, part: str) -> None:
    assert JudgedPart(pattern).of(response) == part


def test_a_group_that_took_no_part_in_the_match_is_not_found() -> None:
    with pytest.raises(NoPartError, match="is not found"):
        JudgedPart("(x)|y").of("y")


@pytest.mark.parametrize("pattern", ["(", "", "a{99999999999}", "x" * 1001])
def test_what_is_no_pattern_is_refused_with_the_run(pattern: str) -> None:
    fields: dict[str, Any] = {"judge": {"kind": "rules", "entry_point": "a:b"}, "judged_part": pattern}
    with pytest.raises(ValidationError, match="judged_part"):
        type(an_oracle()).model_validate(fields)


def test_no_pattern_is_searched_in_more_than_a_mebibyte() -> None:
    part = JudgedPart(AFTER_THINKING)
    assert part.of("<think></think>" + "x" * 1000) == "x" * 1000
    with pytest.raises(NoPartError, match="a response has 1048591 bytes"):
        part.of("<think></think>" + "x" * MAX_MATCHED_BYTES)
