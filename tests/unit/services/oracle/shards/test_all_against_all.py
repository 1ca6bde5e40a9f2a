"""The comparisons behind the duality gap: all against all, each pair of texts once."""

from pathlib import Path

import pytest

from services.oracle.judges.registry import JudgeRegistry
from services.oracle.worker import JudgeHandler
from shared.contracts.plans import GapPlan
from shared.contracts.records import CrossComparison, Verdict
from shared.contracts.work import Attempt, WorkItem
from shared.runtime.worker.loop import RetryLater
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore
from shared.store.artifacts.tables import read_table
from tests.support.fake_judge import FakeJudge
from tests.support.judged_steps import a_version, put_evaluation

GAP = GapPlan(tau=0.1, earlier=[])


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def _judge(store: DirectoryStore, item: WorkItem, judge: FakeJudge | None = None) -> None:
    JudgeHandler(store, JudgeRegistry(lambda spec: judge or FakeJudge()))(item, Attempt(number=1))


def _comparisons(store: DirectoryStore, item: WorkItem) -> list[tuple[str, int, int, int]]:
    rows = read_table(store, layout.comparisons(item.step, 0), CrossComparison)
    return [(row.prompt_id, row.a, row.opponent, row.b) for row in rows]


def test_every_response_meets_every_response_of_the_reference(store: DirectoryStore) -> None:
    put_evaluation(store, 0, [["aa", "bbb"]])
    item = put_evaluation(store, 1, [["x", "yyyy"]], gap=GAP)
    _judge(store, item)
    assert _comparisons(store, item) == [("p0", 0, 0, 0), ("p0", 0, 0, 1), ("p0", 1, 0, 0), ("p0", 1, 0, 1)]
    rows = read_table(store, layout.comparisons(item.step, 0), CrossComparison)
    assert [row.probability for row in rows] == pytest.approx([0.1, 0.1, 0.9, 0.9])


def test_equal_texts_are_asked_once_and_a_text_never_against_itself(store: DirectoryStore) -> None:
    """Of 3 x 3 pairs the distinct ones are x against aa and bbb, and aa against bbb."""
    put_evaluation(store, 0, [["aa", "bbb", "aa"]])
    item = put_evaluation(store, 1, [["x", "x", "aa"]], gap=GAP)
    _judge(store, item)
    assert _comparisons(store, item) == [("p0", 0, 0, 0), ("p0", 0, 0, 1), ("p0", 2, 0, 1)]


def test_an_earlier_version_meets_the_version_response_by_response(store: DirectoryStore) -> None:
    put_evaluation(store, 0, [["aa", "bbb"]])
    put_evaluation(store, 1, [["cccc", "ddddd"]])
    item = put_evaluation(store, 2, [["x", "yyyy"]], gap=GapPlan(tau=0.1, earlier=[a_version(1)]))
    _judge(store, item)
    assert _comparisons(store, item)[4:] == [("p0", 0, 1, 0), ("p0", 1, 1, 1)]


def test_the_halves_of_the_references_responses_meet_for_its_own_gap(store: DirectoryStore) -> None:
    """Responses 1 and 3 are the opponents of 0 and 2. There is no win rate, so there are no verdicts."""
    item = put_evaluation(store, 0, [["a", "bb", "ccc", "dddd"]], gap=GAP)
    _judge(store, item)
    assert _comparisons(store, item) == [("p0", 1, 0, 0), ("p0", 1, 0, 2), ("p0", 3, 0, 0), ("p0", 3, 0, 2)]
    assert read_table(store, layout.judgments(item.step, 0), Verdict) == []


def test_the_win_rate_is_judged_as_it_is_without_the_gap(store: DirectoryStore) -> None:
    put_evaluation(store, 0, [["aa", "bbb"]])
    item = put_evaluation(store, 1, [["x", "yyyy"]], gap=GAP)
    _judge(store, item)
    verdicts = read_table(store, layout.judgments(item.step, 0), Verdict)
    assert [(verdict.a, verdict.b) for verdict in verdicts] == [(0, 0), (1, 1)]


def test_a_prompt_that_an_opponent_did_not_answer_is_not_asked(store: DirectoryStore) -> None:
    put_evaluation(store, 0, [["aa", "bbb"]])
    item = put_evaluation(store, 1, [["x", "yyyy"], ["z", "zz"]], gap=GAP)
    _judge(store, item)
    assert {row[0] for row in _comparisons(store, item)} == {"p0"}


def test_nothing_is_stored_while_the_judge_fails(store: DirectoryStore) -> None:
    put_evaluation(store, 0, [["aa", "bbb"]])
    item = put_evaluation(store, 1, [["x", "yyyy"]], gap=GAP)
    with pytest.raises(RetryLater):
        _judge(store, item, FakeJudge(failures=1))
    assert not store.exists(layout.comparisons(item.step, 0))
    assert not store.exists(layout.judgments(item.step, 0))


def test_without_the_gap_nothing_is_compared(store: DirectoryStore) -> None:
    put_evaluation(store, 0, [["aa", "bbb"]])
    item = put_evaluation(store, 1, [["x", "yyyy"]])
    _judge(store, item)
    assert not store.exists(layout.comparisons(item.step, 0))
