"""Verdicts are kept by content: what was answered once is never asked again, and failures are not kept."""

import dataclasses
from collections.abc import Sequence

import pytest

from services.oracle.judge import Comparison, Opinion, abstention, failure, opinion
from services.oracle.judges.building import JudgeBuilder
from services.oracle.settings import OracleSettings
from services.oracle.verdicts.cache import BothOrders, CachingJudge, LocalAsker, keep_verdict, read_verdict, verdict_key
from shared.contracts.judges import Order, RulesJudge
from shared.contracts.records import Message
from shared.contracts.rest.judging import JudgeIdentity
from shared.store.artifacts import layout
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.store import CorruptArtifactError
from shared.store.board.memory_board import MemoryBoard, MemoryBudget
from shared.store.queue.memory_queue import ManualClock
from tests.support.fake_judge import FakeJudge
from tests.support.http_judges import ask

ANNA = JudgeIdentity(id="anna", revision="1", kind="pull")


def kept(fake: FakeJudge, store: MemoryStore, order: Order = "both") -> CachingJudge:
    return CachingJudge(LocalAsker(fake), store, order=order)


def test_another_process_or_run_asks_only_what_nobody_was_answered() -> None:
    store, first, second = MemoryStore(), FakeJudge(), FakeJudge()
    before = kept(first, store).compare(ask(("long", "x"), ("x", "y")))
    after = kept(second, store).compare(ask(("x", "y"), ("longer", "x"), ("long", "x")))
    assert [after[2], after[0]] == before
    assert [(asked.first, asked.second) for batch in second.batches for asked in batch] == [("longer", "x")]


def test_failures_are_not_kept_and_abstentions_are() -> None:
    store = MemoryStore()
    judge = kept(FakeJudge(failures=1, failing=frozenset({"bad"}), unanswerable="?"), store)
    comparisons = ask(("bad", "x"), ("?", "x"))
    assert [answer.status for answer in judge.compare(comparisons)] == ["error", "abstain"]
    assert len(store.objects) == 1
    assert [answer.status for answer in judge.compare(comparisons)] == ["ok", "abstain"]


def test_everything_that_could_change_the_answer_is_in_the_key_and_nothing_else() -> None:
    (asked,) = ask(("a", "b"))
    stochastic = ANNA.model_copy(update={"stochastic": True})
    keys = [
        verdict_key(ANNA, "both", asked),
        verdict_key(ANNA, "given", asked),
        verdict_key(ANNA.model_copy(update={"id": "bob"}), "both", asked),
        verdict_key(ANNA.model_copy(update={"revision": "2"}), "both", asked),
        verdict_key(ANNA.model_copy(update={"kind": "http"}), "both", asked),
        verdict_key(ANNA, "both", Comparison([Message(role="system", content="which?")], "a", "b")),
        verdict_key(ANNA, "both", Comparison(asked.prompt, "b", "a")),
        verdict_key(ANNA, "both", Comparison(asked.prompt, "a", "b ")),
        verdict_key(stochastic, "both", Comparison(asked.prompt, "a", "b", draw=1)),
    ]
    assert len(set(keys)) == len(keys)
    again = Comparison(list(asked.prompt), "a", "b", draw=1)
    assert verdict_key(ANNA, "both", again) == keys[0], "a judge that repeats itself is not asked for a draw"


def test_the_first_verdict_is_the_fact() -> None:
    store = MemoryStore()
    assert keep_verdict(store, "ab" * 32, ANNA, opinion(0.9, None, 1.0)).probability == 0.9
    assert keep_verdict(store, "ab" * 32, ANNA, opinion(0.1, None, 1.0)).probability == 0.9


@pytest.mark.parametrize("answer", [opinion(0.9, 0.7, 1.5), opinion(0.5, None, 0.0), abstention("unreadable", 0.1)])
def test_a_kept_verdict_is_read_as_it_was_given(answer: Opinion) -> None:
    store = MemoryStore()
    keep_verdict(store, "ab" * 32, ANNA, answer)
    assert read_verdict(store, "ab" * 32) == answer
    assert read_verdict(store, "cd" * 32) is None


def test_a_broken_verdict_is_named_and_not_asked_around() -> None:
    store = MemoryStore()
    key = verdict_key(FakeJudge().identity(), "both", ask(("a", "b"))[0])
    store.create(layout.verdict(key), b"{}")
    with pytest.raises(CorruptArtifactError, match=key):
        kept(FakeJudge(), store).compare(ask(("a", "b")))


class OneWay(FakeJudge):
    """Prefers what stands first with .8, fails on `bad` in the first place, abstains on `?` there."""

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        self.batches.append(list(comparisons))
        by_first = {"bad": failure("no", 1.0), "?": abstention("what?", 1.0)}
        return [by_first.get(asked.first, opinion(0.8, None, 1.0)) for asked in comparisons]


def test_both_orders_are_averaged_and_either_order_that_fails_or_abstains_is_the_answer() -> None:
    """Always .8 for the first place is 1/2 for both; the bias stays visible; time adds up."""
    fair, failed, unsure = BothOrders(OneWay()).compare(ask(("a", "b"), ("a", "bad"), ("?", "b")))
    assert (fair.status, fair.probability_given, fair.latency_s) == ("tie", 0.8, 2.0)
    assert fair.probability_swapped == pytest.approx(0.2)
    assert (failed.status, failed.error) == ("error", "no")
    assert (unsure.status, unsure.error) == ("abstain", "what?")


def test_local_verdicts_are_kept_where_the_settings_say_so() -> None:
    spec = RulesJudge(entry_point="tests.support.rules:longer_is_better")
    settings = OracleSettings(oracle_entry_points=("tests.support.",))
    clock, store = ManualClock(), MemoryStore()
    builder = JudgeBuilder(settings, store, MemoryBoard(clock), MemoryBudget(clock))
    builder(spec).compare(ask(("a", "bb")))
    assert store.objects == {}
    keeping = dataclasses.replace(builder, settings=settings.model_copy(update={"oracle_keep_verdicts": ("rules",)}))
    keeping(spec).compare(ask(("a", "bb")))
    assert len(store.list("verdicts")) == 1
