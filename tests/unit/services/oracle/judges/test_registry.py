"""Judges are built once, and never asked the same question twice."""

import threading
import tracemalloc

import pytest

from services.oracle.judge import Comparison, JudgeBuildError
from services.oracle.judges.registry import JudgeRegistry, RememberingJudge
from shared.contracts.judges import JudgeSpec, RulesJudge
from shared.contracts.records import Message
from tests.support.fake_judge import FakeJudge

PROMPT = [Message(role="user", content="which?")]


def ask(*pairs: tuple[str, str]) -> list[Comparison]:
    return [Comparison(PROMPT, first, second) for first, second in pairs]


def test_an_answer_is_remembered_by_content_and_a_failure_is_not() -> None:
    """The first batch fails on `bad` only; the second asks for that alone."""
    fake = FakeJudge(failures=1, failing=frozenset({"bad"}))
    judge = RememberingJudge(fake, capacity=10)
    assert [opinion.status for opinion in judge.compare(ask(("bad", "x"), ("long", "x")))] == ["error", "ok"]
    assert [opinion.status for opinion in judge.compare(ask(("bad", "x"), ("long", "x")))] == ["ok", "ok"]
    assert [len(batch) for batch in fake.batches] == [2, 1]


def test_the_order_the_prompt_and_the_responses_are_all_part_of_the_content() -> None:
    fake = FakeJudge()
    judge = RememberingJudge(fake, capacity=10)
    other = [Message(role="user", content="another")]
    first, second, third = judge.compare([*ask(("long", "x"), ("x", "long")), Comparison(other, "long", "x")])
    assert (first.probability, third.probability) == (0.9, 0.9)
    assert second.probability == pytest.approx(0.1)
    assert fake.num_asked == 3


def test_equal_comparisons_of_a_batch_are_asked_once_and_answered_each() -> None:
    fake = FakeJudge()
    opinions = RememberingJudge(fake, capacity=10).compare(ask(("long", "x"), ("long", "x")))
    assert len(opinions) == 2
    assert fake.num_asked == 1


def test_memory_is_bounded_and_forgets_what_was_unused_for_longest() -> None:
    fake = FakeJudge()
    judge = RememberingJudge(fake, capacity=2)
    judge.compare(ask(("a", "b"), ("a", "c")))
    judge.compare(ask(("a", "b")))
    judge.compare(ask(("a", "d")))
    judge.compare(ask(("a", "b")))
    assert fake.num_asked == 3
    judge.compare(ask(("a", "c")))
    assert fake.num_asked == 4


def test_a_judge_is_built_once_however_many_threads_ask_for_it() -> None:
    built: list[JudgeSpec] = []
    pool = JudgeRegistry(lambda spec: built.append(spec) or FakeJudge())
    threads = [threading.Thread(target=pool.get, args=(RulesJudge(entry_point="m:f"),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    pool.get(RulesJudge(entry_point="m:f", params={"x": 1}))
    assert len(built) == 2


def test_the_judge_unused_for_longest_makes_room() -> None:
    pool = JudgeRegistry(lambda spec: FakeJudge(revision=spec.model_dump_json()), max_judges=2)
    specs = [RulesJudge(entry_point=f"m:f{number}") for number in range(3)]
    for spec in (specs[0], specs[1], specs[0], specs[2]):
        pool.get(spec)
    assert [identity.revision for identity in pool.identities()] == [specs[i].model_dump_json() for i in (0, 2)]


def test_a_failed_build_is_tried_again() -> None:
    faults = [JudgeBuildError("path", "not there yet")]

    def build(spec: JudgeSpec) -> FakeJudge:
        if faults:
            raise faults.pop()
        return FakeJudge()

    pool = JudgeRegistry(build)
    with pytest.raises(JudgeBuildError):
        pool.get(RulesJudge(entry_point="m:f"))
    assert pool.get(RulesJudge(entry_point="m:f")).identity().id == "fake"


def test_a_judge_that_is_slow_to_build_holds_up_no_other() -> None:
    """The slow one is under construction until the quick one has been had."""
    had = threading.Event()

    def build(spec: JudgeSpec) -> FakeJudge:
        assert isinstance(spec, RulesJudge)
        if spec.entry_point == "m:slow":
            assert had.wait(timeout=30)
        return FakeJudge()

    pool = JudgeRegistry(build)
    slow = threading.Thread(target=pool.get, args=(RulesJudge(entry_point="m:slow"),))
    slow.start()
    pool.get(RulesJudge(entry_point="m:quick"))
    had.set()
    slow.join()
    assert len(pool.identities()) == 2
    pool.forget(RulesJudge(entry_point="m:slow"))
    assert len(pool.identities()) == 1


def test_specifications_that_cannot_be_built_leave_nothing_in_memory() -> None:
    """Twenty-five of 256 KiB each would be 6.4 MB: what stays is less than one of them."""

    def build(spec: JudgeSpec) -> FakeJudge:
        raise JudgeBuildError("entry_point", "no such rule")

    pool = JudgeRegistry(build)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(25):
            with pytest.raises(JudgeBuildError):
                pool.get(RulesJudge(entry_point="m:f", params={"text": f"{number:02}" + "x" * 2**18}))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2**18
