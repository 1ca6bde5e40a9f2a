"""What every board and every budget promises, proved for Redis and for the twins in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from shared.store.board.budget import Budget
from shared.store.board.memory_board import MemoryBoard, MemoryBudget
from shared.store.board.protocol import Board
from shared.store.board.redis_board import RedisBoard, RedisBudget
from shared.store.queue.memory_queue import ManualClock
from tests.support.redis_server import RedisServer

JUDGE = "anna@1"


@dataclass(frozen=True)
class StepRunner:
    """A board and a budget; `expire_leases` and `forget_wishes` let as much time pass as that takes."""

    board: Board
    budget: Budget
    expire_leases: Callable[[], None]
    forget_wishes: Callable[[], None]
    lose_everything: Callable[[], None]


@pytest.fixture(params=["memory", "redis"])
def bench(request: pytest.FixtureRequest) -> Iterator[StepRunner]:
    if request.param == "memory":
        clock = ManualClock(1_000.0)
        board = MemoryBoard(clock)
        yield StepRunner(
            board, MemoryBudget(clock), lambda: clock.advance(61), lambda: clock.advance(601), board.lose_everything
        )
        return
    url: str = request.getfixturevalue("redis_url")
    server: RedisServer = request.getfixturevalue("redis_server")
    with server.client() as client:

        def age(name: str) -> None:
            key = f"inpo:board:{JUDGE}:{name}"
            for member in client.zrange(key, 0, -1):  # pyright: ignore
                client.zadd(key, {member: 1})  # pyright: ignore

        def forget_wishes() -> None:
            age("wanted")
            age("leased")

        def lose_everything() -> None:
            client.flushall()  # pyright: ignore

        yield StepRunner(RedisBoard(url), RedisBudget(url), lambda: age("leased"), forget_wishes, lose_everything)


def leased(board: Board, max_items: int = 10, judge: str = JUDGE) -> list[str]:
    return [lease.id for lease in board.lease(judge, max_items=max_items, lease_s=60.0)]


def test_comparisons_are_leased_in_the_order_in_which_they_were_put_up_and_once(bench: StepRunner) -> None:
    for identity in ("c", "a", "b"):
        bench.board.put(JUDGE, [identity])
    first = leased(bench.board, 2)
    assert len(first) == 2
    assert sorted([*first, *leased(bench.board)]) == ["a", "b", "c"]
    assert leased(bench.board) == []
    assert bench.board.put(JUDGE, ["a", "b", "c"]) == {}
    assert leased(bench.board) == [], "what is leased is not open again because somebody still wants it"


def test_a_judge_gets_its_own_comparisons_only(bench: StepRunner) -> None:
    bench.board.put(JUDGE, ["a"])
    assert leased(bench.board, judge="anna@2") == []
    assert leased(bench.board, judge="ann") == []
    assert leased(bench.board) == ["a"]


def test_a_lease_that_ran_out_is_given_again_before_all_others_under_another_token(bench: StepRunner) -> None:
    bench.board.put(JUDGE, ["old"])
    (before,) = bench.board.lease(JUDGE, max_items=1, lease_s=60.0)
    bench.board.put(JUDGE, ["new"])
    bench.expire_leases()
    assert bench.board.counts(JUDGE).open == 2
    (after,) = bench.board.lease(JUDGE, max_items=1, lease_s=60.0)
    assert after.id == before.id == "old"
    assert after.token != before.token
    assert after.expires_at_s > 0


def test_what_is_settled_is_gone_whether_it_was_open_or_leased(bench: StepRunner) -> None:
    bench.board.put(JUDGE, ["a", "b"])
    (lease,) = bench.board.lease(JUDGE, max_items=1, lease_s=60.0)
    bench.board.settle(JUDGE, lease.id)
    other = "b" if lease.id == "a" else "a"
    bench.board.settle(JUDGE, other, answered=False)
    counts = bench.board.counts(JUDGE)
    assert (counts.open, counts.leased, counts.failed, counts.answered) == (0, 0, 0, 1)
    bench.expire_leases()
    assert leased(bench.board) == []


def test_a_failure_is_shown_to_whoever_puts_it_up_until_it_is_forgotten(bench: StepRunner) -> None:
    bench.board.put(JUDGE, ["a"])
    (lease,) = bench.board.lease(JUDGE, max_items=1, lease_s=60.0)
    assert bench.board.fail(JUDGE, "a", lease.token, "I cannot read it")
    assert not bench.board.fail(JUDGE, "a", lease.token, "twice")
    assert bench.board.put(JUDGE, ["a", "b"]) == {"a": "I cannot read it"}
    assert leased(bench.board) == ["b"]
    bench.board.forget(JUDGE, ["a"])
    assert bench.board.put(JUDGE, ["a"]) == {}
    assert leased(bench.board) == ["a"]


def test_only_the_holder_of_the_lease_can_fail_and_only_in_time(bench: StepRunner) -> None:
    bench.board.put(JUDGE, ["a"])
    (lease,) = bench.board.lease(JUDGE, max_items=1, lease_s=60.0)
    assert not bench.board.fail(JUDGE, "a", "guessed", "no")
    assert not bench.board.fail(JUDGE, "never put up", lease.token, "no")
    bench.expire_leases()
    assert not bench.board.fail(JUDGE, "a", lease.token, "too late")
    assert bench.board.counts(JUDGE).failed == 0


def test_what_nobody_puts_up_any_more_is_not_given_out(bench: StepRunner) -> None:
    """One is open, one leased; ten minutes later nobody waits for either."""
    bench.board.put(JUDGE, ["a", "b"])
    assert len(leased(bench.board, 1)) == 1
    bench.forget_wishes()
    assert leased(bench.board) == []
    bench.board.put(JUDGE, ["a", "b"])
    assert sorted(leased(bench.board)) == ["a", "b"]


def test_a_redis_clock_that_was_hours_ahead_and_is_right_again_blocks_no_comparison(
    redis_url: str, redis_server: RedisServer
) -> None:
    """What the board left behind at ten hours ahead: a lease that was just over, under a clock at that hour."""
    board = RedisBoard(redis_url)
    board.put(JUDGE, ["a"])
    assert leased(board) == ["a"]
    with redis_server.client() as client:
        seconds, micros = client.time()  # pyright: ignore
        then_ms = int(seconds) * 1000 + int(micros) // 1000 + 36_000_000
        client.hset("inpo:board:clock", "last_ms", str(then_ms))
        client.zadd(f"inpo:board:{JUDGE}:leased", {"a": then_ms})
        client.zadd(f"inpo:board:{JUDGE}:wanted", {"a": then_ms + 600_000})
    assert leased(board) == ["a"]
    assert board.counts(JUDGE).leased == 1


def test_counts_know_a_judge_that_was_never_there_from_one_that_was(bench: StepRunner) -> None:
    bench.board.put(JUDGE, ["a", "b"])
    counts = bench.board.counts(JUDGE)
    assert (counts.open, counts.leased, counts.answered, counts.silent_s) == (2, 0, 0, None)
    leased(bench.board, 1)
    counts = bench.board.counts(JUDGE)
    assert (counts.open, counts.leased) == (1, 1)
    assert counts.silent_s is not None
    assert 0.0 <= counts.silent_s < 60.0


def test_a_lost_board_takes_up_again_whatever_is_put_up(bench: StepRunner) -> None:
    bench.board.put(JUDGE, ["a"])
    (lease,) = bench.board.lease(JUDGE, max_items=1, lease_s=60.0)
    bench.lose_everything()
    bench.board.settle(JUDGE, lease.id)
    assert bench.board.put(JUDGE, ["b"]) == {}
    assert leased(bench.board) == ["b"]


def test_many_comparisons_fit(bench: StepRunner) -> None:
    ids = [f"{number:064x}" for number in range(1_200)]
    bench.board.put(JUDGE, ids)
    assert bench.board.counts(JUDGE).open == 1_200
    assert len(leased(bench.board, 256)) == 256


def test_a_budget_grants_what_it_holds_and_then_says_how_long_to_wait(bench: StepRunner) -> None:
    """One a minute: a bucket of one, and the next one is a minute away."""
    assert bench.budget.take("url", per_minute=1.0) == 0.0
    assert 50.0 < bench.budget.take("url", per_minute=1.0) <= 60.0
    assert bench.budget.take("another", per_minute=1.0) == 0.0


def test_a_budget_holds_what_a_second_earns(bench: StepRunner) -> None:
    """600 a minute are ten a second: ten at once, then hardly any before the next tenth of a second."""
    granted = [bench.budget.take("url", per_minute=600.0) == 0.0 for _ in range(200)]
    assert all(granted[:10])
    assert not all(granted)


def test_a_held_budget_grants_nothing_and_the_longest_hold_counts(bench: StepRunner) -> None:
    bench.budget.hold("url", 100.0)
    bench.budget.hold("url", 1.0)
    assert 90.0 < bench.budget.take("url", per_minute=1e6) <= 100.0
    assert bench.budget.take("another", per_minute=1e6) == 0.0


def test_a_memory_budget_refills_with_time() -> None:
    clock = ManualClock()
    budget = MemoryBudget(clock)
    waits: list[float] = []
    for _ in range(3):
        waits.append(budget.take("url", per_minute=60.0))
        clock.advance(0.5)
    assert waits == [0.0, 0.5, 0.0]
